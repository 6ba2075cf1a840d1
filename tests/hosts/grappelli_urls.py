from django.urls import include, path

from config.urls import urlpatterns as example

urlpatterns = [path("grappelli/", include("grappelli.urls")), *example]
