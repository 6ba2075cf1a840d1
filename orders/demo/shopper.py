"""Customers who order through the storefront."""

import random

from django.urls import reverse

from orders.demo.crm import REFUSED_DOMAIN, SLOW_DOMAIN
from orders.demo.errors import Unexpected
from orders.demo.visitor import Form, Visitor
from orders.forms import MOST_OF_ONE

FIRST = [
    "Ada",
    "Amir",
    "Bea",
    "Chen",
    "Dana",
    "Emil",
    "Femi",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kofi",
]
LAST = ["Adler", "Brandt", "Costa", "Diallo", "Engel", "Fischer", "Garcia", "Haas", "Ito", "Keller"]
USUAL_DOMAIN = "post.example"
MOST_PIECES = 3


class Shopper:
    """Orders something for somebody; every 5th from the 2nd on is slow in the CRM, and every
    ``refused_every``-th from the 4th on is refused there."""

    def __init__(self, site: str, *, refused_every: int) -> None:
        self.site = site
        self.refused_every = refused_every
        self.placed = 0
        self.chance = random.Random()

    def order(self) -> str:
        """Place one order over HTTP and return the token in its address. Raises Unexpected."""
        visitor = Visitor(self.site)
        shop = reverse("orders:storefront")
        form = visitor.get(shop).form(shop)
        page = visitor.send(form, **self._person(), **self._basket(form))
        token = page.path.strip("/").rpartition("/")[2]
        if page.status != 200 or page.path != reverse("orders:order", args=[token or "-"]):
            raise Unexpected(f"An order was not taken: {page.address} (status {page.status}).")
        self.placed += 1
        return token

    def _person(self) -> dict[str, str]:
        first, last = self.chance.choice(FIRST), self.chance.choice(LAST)
        email = f"{first}.{last}@{self._domain()}".lower()
        return {"customer": f"{first} {last}", "email": email}

    def _domain(self) -> str:
        if self.placed % self.refused_every == 3:
            return REFUSED_DOMAIN
        return SLOW_DOMAIN if self.placed % 5 == 1 else USUAL_DOMAIN

    def _basket(self, form: Form) -> dict[str, str]:
        left = {
            name: int(attributes.get("max", 0))
            for name, attributes in form.fields.items()
            if name.startswith("quantity_")
        }
        # The last pieces may be gone before they are set aside: they are left to people.
        there = [name for name, pieces in left.items() if pieces >= MOST_OF_ONE]
        if not there:
            raise Unexpected("Nothing is left on the shelf.")
        wanted = self.chance.sample(there, k=min(len(there), self.chance.randint(1, 3)))
        return {name: str(self.chance.randint(1, MOST_PIECES)) for name in wanted}
