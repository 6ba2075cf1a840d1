from django.core.mail import send_mail

from tasks import handler


@handler("email.order_confirmation", max_attempts=5, timeout=30, title="Send the confirmation")
def send_confirmation(task):
    send_mail("Thank you", "We have your order.", "shop@example.com", [task.data["to"]])
    return {"sent_to": task.data["to"]}


@handler("inventory.reserve", atomic=True)
def reserve(task):
    task.record.reserved = True
    task.record.save(update_fields=["reserved"])


@handler("crm.sync", queue="crm")
async def sync(task):
    return {"customer": task.record.email}
