from decimal import Decimal

from django.db import migrations

PRODUCTS = [
    ("BOARD-01", "Oak chopping board", "39.00", 200),
    ("BOWL-02", "Stoneware bowl, sea green", "18.50", 300),
    ("CLOTH-03", "Linen napkins, set of four", "26.00", 250),
    ("JUG-04", "Glass jug, one litre", "22.90", 150),
    ("KNIFE-05", "Bread knife", "34.00", 120),
    ("LAMP-06", "Oil lamp", "48.00", 6),
]


def put_on_the_shelf(apps, schema_editor):
    products = apps.get_model("orders", "Product").objects.using(schema_editor.connection.alias)
    for sku, name, price, stock in PRODUCTS:
        found = {"name": name, "price": Decimal(price), "stock": stock}
        products.get_or_create(sku=sku, defaults=found)


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]

    operations = [migrations.RunPython(put_on_the_shelf, migrations.RunPython.noop)]
