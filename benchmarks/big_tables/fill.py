"""Fill the example host's database with a shop's two weeks: made by PostgreSQL itself, in seconds.

Of a thousand tasks 970 are completed, 10 failed, 5 cancelled, 7 planned for later, 5 due, 1 is
tried again and 2 wait; the newest 400 of all are running. Three in four belong to an order. Orders
and customers are numbered from the newest on, so that the same ones have the same tasks in a small
table and in a large one. On a bad day only 10 of 40 are completed, the rest stands as above.
"""

from __future__ import annotations

import re
from typing import Any, LiteralString, Protocol

RUNNING = 400
#: Orders that exist, in a small table of tasks as in a large one: how long the host's own admin
#: searches its records is not measured. Older tasks belong to orders that were deleted.
MOST_ORDERS = 2_500
WORKERS = 8
INCIDENTS = 40


class Cursor(Protocol):
    """What psycopg's and Django's cursors have in common."""

    def execute(self, query: Any, params: Any = None) -> Any: ...

    def fetchall(self) -> Any: ...


_TASKS: LiteralString = """
INSERT INTO tasks_task (type, action, data, state, due, queue, priority, run_at, attempts,
    max_attempts, worker_id, lease, created_at, started_at, finished_at, reason, fingerprint,
    has_dependents, idempotency_key, context, content_type_id, object_id)
SELECT type, action,
    jsonb_build_object('customer', jsonb_build_object('id', (%(rows)s - n) / 40), 'note', 'gift'),
    state, due, queue, 0,
    CASE WHEN state = 'scheduled' AND NOT due THEN now() + make_interval(secs => n %% 864000)
         ELSE made END,
    CASE WHEN state IN ('completed', 'running') THEN 1 WHEN state = 'failed' THEN 5
         WHEN retrying THEN 2 ELSE 0 END,
    5,
    CASE WHEN state IN ('completed', 'running', 'failed') THEN 1 + n %% %(workers)s END,
    CASE WHEN state IN ('completed', 'running', 'failed') THEN 1 ELSE 0 END,
    made,
    CASE WHEN state IN ('completed', 'running', 'failed') THEN made + interval '1 second' END,
    CASE WHEN state IN ('completed', 'failed', 'cancelled') THEN made + interval '2 seconds' END,
    CASE WHEN state = 'failed' OR retrying THEN 'shop.MailboxFull: mailbox ' || n || ' is full'
         WHEN state = 'cancelled' THEN 'order withdrawn' ELSE '' END,
    CASE WHEN state = 'failed' THEN 'incident-' ||
        CASE WHEN n %% 10 < 7 THEN 0 ELSE (n / 100) %% %(incidents)s END ELSE '' END,
    ((n + 1) * 7919) %% %(spread)s IN (28, 29), gen_random_uuid(), '{}',
    CASE WHEN n %% 4 > 0 THEN %(orders)s END,
    CASE WHEN n %% 4 > 0 THEN (1 + (%(rows)s - n) / 4)::text END
FROM (
    SELECT n, due, retrying, (ARRAY['email', 'crm', 'inventory', 'review'])[1 + n %% 4] AS type,
        (ARRAY['order_confirmation', 'sync', 'reserve', 'ask'])[1 + n %% 4] AS action,
        (ARRAY['default', 'crm', 'default', 'reviews'])[1 + n %% 4] AS queue,
        now() - make_interval(secs => 1209600.0 * (%(rows)s - n) / %(rows)s) AS made,
        CASE WHEN n > %(rows)s - %(running)s THEN 'running' ELSE state END AS state
    FROM (
        SELECT n, k BETWEEN 22 AND 26 AND n <= %(rows)s - %(running)s AS due, k = 27 AS retrying,
            CASE WHEN k < 10 THEN 'failed' WHEN k < 15 THEN 'cancelled' WHEN k < 28 THEN 'scheduled'
                 WHEN k < 30 THEN 'waiting' ELSE 'completed' END AS state
        FROM (
            SELECT n, (n * 7919) %% %(spread)s AS k FROM generate_series(1::bigint, %(rows)s) n
        ) numbered
    ) mixed
) shop
"""

_AROUND: tuple[LiteralString, ...] = (
    """
    INSERT INTO orders_order (id, number, customer, email, created, total, status, token,
        submission)
    SELECT n, 1000 + n, 'Customer ' || n, 'customer' || n || '@example.com', now(), 10, 'placed',
        'token' || n, gen_random_uuid()
    FROM generate_series(1, least(%(most_orders)s, %(rows)s / 4)) n
    """,
    """
    INSERT INTO tasks_failure (task_id, attempt, started_at, at, exception, message, traceback,
        fingerprint)
    SELECT id, 5, started_at, finished_at, 'shop.MailboxFull', reason,
        repeat('  File "shop/mail.py", line 12, in send' || chr(10), 20), fingerprint
    FROM tasks_task WHERE state = 'failed'
    """,
    """
    INSERT INTO tasks_incident (fingerprint, type, action, exception, message, status, failures,
        newest_task_id, first_seen_at, last_seen_at, first_release, reopened_release, taken_by,
        note, link)
    SELECT fingerprint, 'email', 'order_confirmation', 'shop.MailboxFull', 'mailbox is full',
        (ARRAY['open', 'taken', 'muted', 'resolved'])[1 + max(id) %% 4], count(*), max(id),
        min(finished_at), max(finished_at), '', '', '', '', ''
    FROM tasks_task WHERE state = 'failed' GROUP BY fingerprint
    """,
    """
    INSERT INTO tasks_incidenthour (incident_id, hour, failures)
    SELECT id, date_trunc('hour', now()) - make_interval(hours => h), 1 + (id + h) %% 9
    FROM tasks_incident, generate_series(0, 167) h
    """,
    """
    INSERT INTO tasks_prerequisite (task_id, prerequisite_id)
    SELECT id, id - 1 FROM tasks_task WHERE state = 'waiting'
    """,
    """
    INSERT INTO tasks_searchkey (task_id, key, value)
    SELECT id, 'customer.id', data #>> '{customer,id}' FROM tasks_task WHERE type = 'crm'
    """,
    """
    INSERT INTO tasks_taskevent (task_id, queue, at, who, action, reason)
    SELECT id, '', finished_at, 'ann', 'retry', 'the customer asked'
    FROM tasks_task WHERE state = 'failed'
    """,
    """
    INSERT INTO tasks_logline (task_id, attempt, at, level, text)
    SELECT id, 1, started_at, 20, 'sent' FROM tasks_task WHERE state = 'failed'
    """,
    """
    INSERT INTO tasks_worker (id, host, pid, queues, threads, coroutines, holds_lock, started_at,
        heartbeat_at)
    SELECT n, 'web-' || n, 4000 + n, '[]', 4, 100, false, now(), now()
    FROM generate_series(1, %(workers)s) n
    """,
    """
    INSERT INTO tasks_queue (name, paused_by, paused_reason)
    SELECT name, '', '' FROM unnest(ARRAY['default', 'crm', 'reviews']) name
    """,
    """
    INSERT INTO tasks_figure (start, span, process, queue, type, action, completed, failed, retried,
        cancelled, wait, run)
    SELECT to_timestamp(floor(extract(epoch FROM now()) / span) * span - step * span), span, 0,
        queue, type, action, 40, 1, 1, 0, '{"40": 30, "44": 10}', '{"50": 40}'
    FROM (VALUES (60, 2880), (600, 1152), (3600, 336)) spans (span, most),
        generate_series(0, most - 1) step,
        (VALUES ('', '', ''), ('default', '', ''), ('crm', '', ''), ('reviews', '', ''),
            ('default', 'email', 'order_confirmation'), ('crm', 'crm', 'sync'),
            ('default', 'inventory', 'reserve'), ('reviews', 'review', 'ask')
        ) names (queue, type, action)
    """,
)
_SEQUENCES: LiteralString = """
SELECT setval(pg_get_serial_sequence('orders_order', 'id'), %(most_orders)s + 1)
"""
_INDEXES: LiteralString = """
SELECT indexname, indexdef FROM pg_indexes
WHERE tablename = 'tasks_task' AND indexname NOT IN (
    SELECT conname FROM pg_constraint WHERE conrelid = 'tasks_task'::regclass)
"""


def fill(cursor: Cursor, rows: int, *, bad_day: bool = False) -> None:
    """``rows`` tasks and what belongs to them, into an empty database that was migrated."""
    cursor.execute(
        "SELECT id FROM django_content_type WHERE app_label = 'orders' AND model = 'order'"
    )
    values = {
        "rows": rows,
        "spread": 40 if bad_day else 1000,
        "running": RUNNING,
        "workers": WORKERS,
        "incidents": INCIDENTS,
        "most_orders": MOST_ORDERS,
        "orders": cursor.fetchall()[0][0],
    }
    cursor.execute(_INDEXES)
    indexes = list(cursor.fetchall())
    # Made anew afterwards: much faster than growing them row by row.
    for name, _definition in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    cursor.execute(_TASKS, values)
    for _name, definition in indexes:
        cursor.execute(re.sub("%", "%%", definition))
    for statement in _AROUND:
        cursor.execute(statement, values)
    cursor.execute(_SEQUENCES, values)


def tidy(cursor: Cursor) -> None:
    """What autovacuum does after a while; not inside a transaction."""
    cursor.execute("VACUUM ANALYZE")
