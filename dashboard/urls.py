from django.urls import path

from dashboard.views import LivePage

urlpatterns = [path("dashboard", LivePage.as_view(), name="dashboard")]
