"""Addresses of a host with a second admin site, whose staff need not be Django's staff."""

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import path

from config.urls import urlpatterns as first_site
from orders.models import Order
from tasks import dashboard


class PartnerSite(AdminSite):
    """Open to the group "partners" alone, signed in anywhere."""

    def has_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return user.is_active and user.groups.filter(name="partners").exists()


partners = PartnerSite(name="partners")
partners.register(Order, search_fields=["email"])
dashboard.register(partners)

urlpatterns = [path("partners/", partners.urls), *first_site]
