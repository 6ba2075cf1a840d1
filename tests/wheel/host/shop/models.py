from django.db import models

from tasks.models import TaskRelation


class Order(models.Model):
    email = models.EmailField()
    reserved = models.BooleanField(default=False)

    tasks = TaskRelation()

    def __str__(self) -> str:
        return self.email
