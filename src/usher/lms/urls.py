"""URLs of the plugin, all under ``/usher/``."""

from django.urls import include, path

from usher.lms.pages.views import stopped, switch
from usher.lms.signout.views import backchannel_logout

app_name = "usher.lms"

urlpatterns = [
    path("api/v1/", include("usher.lms.api.urls")),
    path("backchannel-logout/<str:backend>/", backchannel_logout, name="backchannel-logout"),
    path("stopped/", stopped, name="stopped"),
    path("switch/", switch, name="switch"),
]
