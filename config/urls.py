from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path, re_path

urlpatterns = [
    path("admin/", admin.site.urls),
    # An example host is seen whole without a web server in front of it, also with DEBUG off.
    re_path(r"^static/(?P<path>.*)$", serve, {"insecure": True}),
    path("", include("orders.urls")),
]
