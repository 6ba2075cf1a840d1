from django.contrib import admin

from orders.models import Order, OrderLine, Product
from tasks.admin import FailedTasksFilter, TaskInline, TaskRollupMixin


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    fields = ["product", "quantity", "price"]
    extra = 0


@admin.register(Order)
class OrderAdmin(TaskRollupMixin, admin.ModelAdmin):
    list_display = ["number", "tasks_rollup", "customer", "email", "total", "status", "created"]
    list_filter = ["status", FailedTasksFilter, "created"]
    search_fields = ["number__exact", "email", "customer"]
    fields = ["number", "customer", "email", "status", "total", "created"]
    readonly_fields = ["number", "created"]
    show_full_result_count = False
    inlines = [OrderLineInline, TaskInline]


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["name", "sku", "price", "stock"]
    search_fields = ["name", "sku"]
