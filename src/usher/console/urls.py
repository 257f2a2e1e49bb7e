"""``path("staff/", include("usher.console.urls"))``"""

from django.urls import include, path

from usher.application.installed import require_installed

require_installed("usher.console", reason="The URLconf includes usher.console.urls")

app_name = "usher_console"
urlpatterns = [path("", include("usher.console.routes"))]
