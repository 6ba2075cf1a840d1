"""Which queues and priorities have due tasks: one probe of tasks_claim for each, not for each row.

MariaDB has no such loose index scan in one statement: a subquery that depends on the row before
reads the index from its beginning. There the callers probe one by one, or read the index once.
"""

from __future__ import annotations

#: Due rows of ``tasks_task task``. Due is said twice: SQLite knows its partial index by the first,
#: MariaDB finds the second column of its plain one by the second.
DUE_SQL = "task.state = 'scheduled' AND task.due AND task.due = TRUE"

#: To stand after WITH RECURSIVE: ``lane(queue)``, the queues with due tasks, and a row of NULL.
LANES_SQL = f"""lane(queue) AS (
    SELECT min(task.queue) FROM tasks_task task WHERE {DUE_SQL}
    UNION ALL
    SELECT (SELECT min(task.queue) FROM tasks_task task
            WHERE {DUE_SQL} AND task.queue > lane.queue)
    FROM lane WHERE lane.queue IS NOT NULL
)"""

#: Likewise with ``level(queue, priority)``: the priorities with due tasks in each, and NULLs.
LEVELS_SQL = f"""{LANES_SQL}, level(queue, priority) AS (
    SELECT lane.queue, (SELECT max(task.priority) FROM tasks_task task
            WHERE {DUE_SQL} AND task.queue = lane.queue)
    FROM lane WHERE lane.queue IS NOT NULL
    UNION ALL
    SELECT level.queue, (SELECT max(task.priority) FROM tasks_task task
            WHERE {DUE_SQL} AND task.queue = level.queue AND task.priority < level.priority)
    FROM level WHERE level.priority IS NOT NULL
)"""
