"""The two pages a customer sees."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from orders.checkout import find_submitted
from orders.forms import OrderForm
from orders.models import Order
from orders.progress import steps


# A page from the browser's cache would carry a submission that already made an order.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def storefront(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return render(request, "orders/storefront.html", {"form": OrderForm()})
    placed = find_submitted(request.POST.get("submission"))
    if placed is not None:
        return redirect(placed)
    form = OrderForm(request.POST)
    if form.is_valid():
        return redirect(form.place())
    return render(request, "orders/storefront.html", {"form": form})


@never_cache
@require_safe
def order_page(request: HttpRequest, token: str) -> HttpResponse:
    order = get_object_or_404(Order, token=token)
    lines = order.lines.select_related("product")
    story = steps(order)
    pending = any(step.mark == "open" for step in story)
    page = {"order": order, "lines": lines, "steps": story, "pending": pending}
    return render(request, "orders/order.html", page)
