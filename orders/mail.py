"""The letters the shop writes, through Django's mail framework."""

from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from orders.models import Order


def send_confirmation(order: Order, to: str, key: str) -> str:
    """Send the confirmation; returns its Message-ID."""
    lines = order.lines.select_related("product")
    text = render_to_string(
        "orders/mail/confirmation.txt",
        {"order": order, "lines": lines, "address": _address(order)},
    )
    return _send(f"Your order {order.number}", text, to, key)


def ask_for_review(order: Order, key: str) -> str:
    """Ask how it was; returns the Message-ID."""
    text = render_to_string("orders/mail/review.txt", {"order": order})
    return _send("How do you like your order?", text, order.email, key)


def _send(subject: str, text: str, to: str, key: str) -> str:
    # The same key in every attempt: whoever receives two of them knows them for one letter.
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    message_id = f"<{key}@{domain}>"
    EmailMessage(subject, text, to=[to], headers={"Message-ID": message_id}).send()
    return message_id


def _address(order: Order) -> str:
    """The whole address of the order's page; empty when the site does not know its own."""
    site: str = getattr(settings, "SITE_URL", "")
    return site.rstrip("/") + order.get_absolute_url() if site else ""
