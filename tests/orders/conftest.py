import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from orders.checkout import place_order
from orders.demo.crm import FakeCrm
from orders.models import Order, Product


@pytest.fixture
def bowl(db: None) -> Product:
    return Product.objects.create(sku="B-1", name="Bowl", price=Decimal("18.50"), stock=30)


@pytest.fixture
def lamp(db: None) -> Product:
    return Product.objects.create(sku="L-1", name="Lamp", price=Decimal("48.00"), stock=3)


@pytest.fixture
def place(bowl: Product) -> Callable[..., Order]:
    """Places an order without the storefront; two bowls when nothing else is said."""

    def place(quantities: dict[Product, int] | None = None, **given: Any) -> Order:
        details = {"customer": "Ada", "email": "ada@post.example", "submission": uuid.uuid4()}
        return place_order(quantities=quantities or {bowl: 2}, **{**details, **given})

    return place


@pytest.fixture
def crm(settings: Any) -> Iterator[FakeCrm]:
    crm = FakeCrm(busy_times=1, retry_after=7)
    crm.start()
    settings.CRM_URL = crm.url
    yield crm
    crm.stop()
