"""What must happen after an order is saved."""

import asyncio
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from orders import crm, mail
from orders.models import Order
from tasks import Cancel, Fail, Retry, handler


@handler(
    "inventory.reserve",
    atomic=True,
    title="Set the items aside",
    on_failure="Ask the warehouse when the article comes in again, then retry.",
)
def reserve(task: Any) -> dict[str, Any]:
    """Takes the items off the shelf; all of them, and once, or none."""
    order = task.record
    ours = Order.objects.filter(pk=order.pk, status=Order.Status.PLACED)
    if not ours.update(status=Order.Status.RESERVED):
        return _already(order)
    # Always in the same order: two orders of the same products never wait for each other.
    for line in order.lines.select_related("product").order_by("product_id"):
        if not line.product.take(line.quantity):
            raise Fail(f"{line.product.name} is sold out: {line.quantity} wanted.")
    return {"reserved": order.lines.count()}


def _already(order: Order) -> dict[str, Any]:
    order.refresh_from_db(fields=["status"])
    if order.status == Order.Status.WITHDRAWN:
        raise Cancel("the order was withdrawn")
    return {"reserved": 0}


def check_recipient(data: dict[str, Any]) -> None:
    """Raises ValueError unless the mail would go to an address."""
    try:
        validate_email(str(data.get("to")))
    except ValidationError:
        raise ValueError(f"“to” must be an e-mail address, not {data.get('to')!r}.") from None


@handler(
    "email.order_confirmation",
    max_attempts=5,
    timeout=30,
    title="Send the confirmation",
    on_failure="Ask the customer for another address, then change the data and retry.",
    repeat="may send the mail twice",
    search=["to"],
    validate=check_recipient,
)
def send_confirmation(task: Any) -> dict[str, str]:
    return {"message_id": mail.send_confirmation(task.record, task.data["to"], _key(task))}


@handler(
    "review.ask",
    queue="reviews",
    timeout=30,
    title="Ask for a review",
    repeat="may ask the customer twice",
)
def ask_for_review(task: Any) -> dict[str, str]:
    return {"message_id": mail.ask_for_review(task.record, _key(task))}


@handler(
    "crm.sync",
    queue="crm",
    max_attempts=8,
    timeout=15,
    title="Tell the CRM",
    on_failure="If the CRM refused the customer, correct the order first. Then retry.",
)
async def sync_with_crm(task: Any) -> dict[str, Any]:
    try:
        answer = await asyncio.to_thread(crm.put_order, task.record, key=_key(task))
    except crm.Busy as busy:
        raise Retry(str(busy), after=busy.retry_after) from busy
    except crm.Refused as refused:
        raise Fail(str(refused)) from refused
    task.log(f"The CRM knows the customer as {answer.get('customer_id')}.")
    return answer


def _key(task: Any) -> str:
    return str(task.idempotency_key)
