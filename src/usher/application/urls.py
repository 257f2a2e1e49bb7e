"""``path("", include("usher.application.urls"))``, at the root, because the LMS expects these
paths."""

from django.urls import include, path

from usher.application.installed import require_installed

require_installed("usher.application", reason="The URLconf includes usher.application.urls")

urlpatterns = [path("", include("usher.application.routes"))]
