"""The statements that the pages offer for monitoring, on PostgreSQL."""

import pytest
from django.db import connection

from tests.docs.pages import DOCS, blocks

SHOWN = [block for page in DOCS.rglob("*.md") for block in blocks(page, "sql")]


@pytest.mark.django_db
@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_statements_for_monitoring_are_answered(block):
    statements = [statement for statement in block.text.split(";") if statement.strip()]
    assert statements
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            assert cursor.description
