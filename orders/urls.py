from django.urls import path

from orders import views

app_name = "orders"
urlpatterns = [
    path("", views.storefront, name="storefront"),
    path("orders/<slug:token>/", views.order_page, name="order"),
]
