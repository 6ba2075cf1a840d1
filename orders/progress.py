"""What a customer reads about the order: never a task, an error or its data."""

from collections.abc import Mapping
from dataclasses import dataclass

from orders.models import Order


@dataclass(frozen=True)
class Step:
    """One line of the order page; ``mark`` is ``done``, ``open`` or ``delayed``."""

    mark: str
    words: str


# What to say for each state of the newest task of that name; {email} is the customer's own.
_ITEMS: Mapping[str, Step] = {
    "completed": Step("done", "Your items are set aside for you."),
    "failed": Step("delayed", "We are checking your items and will write to you soon."),
    "cancelled": Step("delayed", "We are not setting items aside for this order."),
}
_ITEMS_OPEN = Step("open", "We're setting your items aside.")
_CONFIRMATION: Mapping[str, Step] = {
    "waiting": Step("open", "Your confirmation follows as soon as your items are set aside."),
    "completed": Step("done", "We have sent your confirmation to {email}."),
    "failed": Step("delayed", "Your confirmation takes a little longer. We are looking after it."),
    "cancelled": Step("delayed", "We are not sending a confirmation for this order."),
}
_CONFIRMATION_OPEN = Step("open", "Your confirmation is on its way.")


def steps(order: Order) -> list[Step]:
    """The story of the order so far, in the customer's words."""
    states = _states(order)
    told = [Step("done", "We have your order.")]
    if "inventory.reserve" in states:
        told.append(_ITEMS.get(states["inventory.reserve"], _ITEMS_OPEN))
    if "email.order_confirmation" in states:
        step = _CONFIRMATION.get(states["email.order_confirmation"], _CONFIRMATION_OPEN)
        told.append(Step(step.mark, step.words.format(email=order.email)))
    return told


def _states(order: Order) -> dict[str, str]:
    """State of the newest task of each name."""
    return {task.name: str(task.state) for task in order.tasks.all().order_by("pk")}
