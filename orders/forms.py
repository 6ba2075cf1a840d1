"""The order form: a quantity for each product, a name and an e-mail address."""

import uuid
from collections.abc import Iterator
from typing import Any

from django import forms

from orders.checkout import place_order
from orders.models import Order, Product

MOST_OF_ONE = 20


class OrderForm(forms.Form):
    customer = forms.CharField(
        label="Your name",
        max_length=100,
        error_messages={"required": "Please tell us your name."},
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    email = forms.EmailField(
        label="E-mail",
        max_length=254,
        help_text="We send your confirmation to this address.",
        error_messages={
            "required": "Please tell us where to send your confirmation.",
            "invalid": "This does not look like an e-mail address.",
        },
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    submission = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("submission", uuid.uuid4())
        self.products = list(Product.objects.all())
        for product in self.products:
            self.fields[_field_name(product)] = _quantity_field(product)
        self._describe_errors()

    def shelf(self) -> Iterator[tuple[Product, forms.BoundField]]:
        """Each product with its quantity field."""
        for product in self.products:
            yield product, self[_field_name(product)]

    def person(self) -> list[forms.BoundField]:
        """Who orders: the fields below the shelf."""
        return [self["customer"], self["email"]]

    def quantities(self) -> dict[Product, int]:
        """What the customer wants: pieces of each product, none of which is zero."""
        wanted = {product: self.cleaned_data.get(_field_name(product)) for product in self.products}
        return {product: pieces for product, pieces in wanted.items() if pieces}

    def clean(self) -> dict[str, Any]:
        if not self.quantities() and not self._shelf_errors():
            raise forms.ValidationError("Please choose at least one item.", code="empty")
        if "submission" in self.errors:
            raise forms.ValidationError("Please reload this page and order again.", code="stale")
        return self.cleaned_data

    def place(self) -> Order:
        """Place the order of this valid form; once, however often it is sent."""
        return place_order(
            customer=self.cleaned_data["customer"],
            email=self.cleaned_data["email"],
            submission=self.cleaned_data["submission"],
            quantities=self.quantities(),
        )

    def _shelf_errors(self) -> list[str]:
        names = [_field_name(product) for product in self.products]
        return [name for name in names if name in self._errors]

    def _describe_errors(self) -> None:
        """Point each wrong field at its message, for those who hear the page."""
        if not self.is_bound:
            return
        for name in self.errors:
            if name in self.fields:
                attrs = self.fields[name].widget.attrs
                attrs |= {"aria-invalid": "true", "aria-describedby": f"id_{name}_error"}


def _field_name(product: Product) -> str:
    return f"quantity_{product.pk}"


def _quantity_field(product: Product) -> forms.IntegerField:
    most = min(product.stock, MOST_OF_ONE)
    return forms.IntegerField(
        label=f"Quantity of {product.name}",
        required=False,
        min_value=0,
        max_value=most,
        error_messages={
            "invalid": "Please enter a whole number.",
            "min_value": "Please enter 0 or more.",
            "max_value": _too_many(product),
        },
        widget=forms.NumberInput(attrs={"inputmode": "numeric", "placeholder": "0"}),
    )


def _too_many(product: Product) -> str:
    if product.stock == 0:
        return "Sold out, sorry."
    if product.stock < MOST_OF_ONE:
        return f"Only {product.stock} left."
    return f"At most {MOST_OF_ONE} in one order."
