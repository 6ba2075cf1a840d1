"""What the shop sells and what was ordered."""

import secrets
import uuid
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from tasks.models import TaskRelation

FIRST_NUMBER = 1001


def new_token() -> str:
    """An address nobody can guess: 128 random bits, safe in a URL."""
    return secrets.token_urlsafe(16)


class Product(models.Model):
    """Something on the shelf. ``stock`` counts pieces and never goes below zero."""

    sku = models.CharField("article number", max_length=20, unique=True)
    name = models.CharField(max_length=80)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(condition=Q(stock__gte=0), name="orders_stock_not_negative"),
            models.CheckConstraint(condition=Q(price__gte=0), name="orders_price_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    def take(self, quantity: int) -> bool:
        """Take ``quantity`` pieces off the shelf in one guarded UPDATE; False when too few."""
        shelf = Product.objects.filter(pk=self.pk, stock__gte=quantity)
        return shelf.update(stock=F("stock") - quantity) == 1


class OrderNumber(models.Model):
    """Draws order numbers: the database counts, nobody waits for anybody, no number comes twice."""

    def __str__(self) -> str:
        return str(FIRST_NUMBER - 1 + self.pk)

    @classmethod
    def draw(cls, using: str | None = None) -> str:
        """The next number as text. A rolled back order leaves a gap."""
        slip = cls.objects.using(using).create()
        number = str(slip)
        slip.delete()
        return number


class Order(models.Model):
    """One order of one customer. ``token`` is its public address, ``submission`` the form sent."""

    class Status(models.TextChoices):
        PLACED = "placed", "placed"
        RESERVED = "reserved", "items set aside"
        WITHDRAWN = "withdrawn", "withdrawn"

    number = models.CharField(max_length=20, unique=True, editable=False)
    customer = models.CharField(max_length=100)
    email = models.EmailField("e-mail")
    created = models.DateTimeField(auto_now_add=True)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    status = models.CharField(max_length=10, choices=Status, default=Status.PLACED)
    token = models.CharField(max_length=32, unique=True, default=new_token, editable=False)
    submission = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)

    tasks = TaskRelation()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"Order {self.number}"

    def save(self, **kwargs: Any) -> None:
        if not self.number:
            self.number = OrderNumber.draw(kwargs.get("using"))
        super().save(**kwargs)

    def get_absolute_url(self) -> str:
        return reverse("orders:order", args=[self.token])


class OrderLine(models.Model):
    """``quantity`` pieces of a product at the price of the day."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=1), name="orders_quantity_positive"),
            models.UniqueConstraint(fields=["order", "product"], name="orders_line_product_once"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"

    @property
    def total(self) -> Decimal:
        return self.price * self.quantity
