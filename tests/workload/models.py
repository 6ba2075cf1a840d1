"""Records that own tasks, and a count of what their handlers did. Tables come by run_syncdb."""

import uuid
from typing import Any

from django.db import models

from tasks.models import TaskRelation


class Record(models.Model):
    name = models.CharField(max_length=100, blank=True)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return self.name


class ProxyRecord(Record):
    class Meta:
        proxy = True


class ChildRecord(Record):
    """A record with a table of its own below the parent's."""

    note = models.CharField(max_length=100, blank=True)


class Owner(models.Model):
    """Nothing but the declaration, for models to inherit."""

    tasks = TaskRelation()

    class Meta:
        abstract = True


class Shown(models.Manager["Heir"]):
    def get_queryset(self) -> models.QuerySet["Heir"]:
        return super().get_queryset().exclude(name="hidden")


class Heir(Owner):
    name = models.CharField(max_length=100, blank=True)

    objects = Shown()

    def __str__(self) -> str:
        return self.name


class Parcel(models.Model):
    """Has a key before it has a row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return str(self.id)

    def __len__(self) -> int:
        return 0


class PrefixedKey(models.CharField):
    """Says "voucher-x17" where the column says "x17", as fields of public ids do."""

    def from_db_value(self, value: str | None, *arguments: Any) -> str | None:
        return None if value is None else f"voucher-{value}"

    def get_prep_value(self, value: Any) -> Any:
        return str(value).removeprefix("voucher-")


class Voucher(models.Model):
    id = PrefixedKey(max_length=20, primary_key=True)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return str(self.pk)


class Article(models.Model):
    """Its keys may be longer than tasks keep."""

    slug = models.CharField(max_length=100, primary_key=True)

    def __str__(self) -> str:
        return self.slug


class Price(models.Model):
    amount = models.DecimalField(max_digits=8, decimal_places=2, primary_key=True)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return str(self.pk)


class Day(models.Model):
    date = models.DateField(primary_key=True)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return str(self.pk)


class Moment(models.Model):
    at = models.DateTimeField(primary_key=True)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return str(self.pk)


class Erasable(models.Model):
    name = models.CharField(max_length=100, blank=True)

    tasks = TaskRelation(delete_with_record=True)

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """Owns tasks without declaring it; rules compare its fields."""

    name = models.CharField(max_length=100, blank=True)
    balance = models.IntegerField(default=0)
    limit = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    record = models.ForeignKey(Record, null=True, on_delete=models.CASCADE)
    seen_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name


class Posting(models.Model):
    """A row that refers to an account."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"to {self.account_id}"


class Bystander(models.Model):
    """Has neither rules nor tasks."""

    name = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        return self.name


class Ticket(models.Model):
    """Gets its tasks by a rule, see rules.py."""

    name = models.CharField(max_length=100, blank=True)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return self.name


class Effect(models.Model):
    """One thing a handler did: two rows with one key mean that it was done twice."""

    key = models.CharField(max_length=100, db_index=True)
    pid = models.IntegerField()
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.key} in process {self.pid}"
