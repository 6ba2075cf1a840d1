"""Facts, sent after they are committed; nothing in the engine depends on who listens.

Receivers run in the process that made the fact, outside its transaction. What they raise is logged.
"""

from django.dispatch import Signal

#: Arguments: ``using``, ``settled`` (list of ``(task id, state)``).
tasks_settled = Signal()

#: Arguments: ``using``, ``worker_id``, ``tasks`` (how many it held).
worker_lost = Signal()

#: Arguments: ``using``, ``event`` (the TaskEvent row: who did what to which task, and why).
staff_acted = Signal()

#: Arguments: ``using``, ``incident`` (the Incident row), ``reopened`` (False for a new one).
incident_opened = Signal()

#: Arguments: ``using``, ``cause`` (a ``tasks.alerts.Cause``). At most once an hour for each cause.
alert_raised = Signal()
