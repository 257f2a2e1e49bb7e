"""All URLs of Usher in the application. Include them at the root, because the LMS expects these
paths."""

from django.urls import URLPattern, URLResolver, include, path, re_path
from oauth2_provider.views import OAuthServerMetadataView

from usher.application.health import staff
from usher.application.health import views as health
from usher.application.metrics.views import metrics
from usher.application.provider import views as provider
from usher.application.provider.signout import views as signout
from usher.contract.paths import ApplicationPath


def _route(absolute: str) -> str:
    return absolute.removeprefix("/")


urlpatterns: list[URLPattern | URLResolver] = [
    path("oauth2/", include("usher.application.provider.urls")),
    re_path(
        r"^\.well-known/oauth-authorization-server(?:/oauth2)?$",
        OAuthServerMetadataView.as_view(),
        name="usher-oauth-metadata",
    ),
    re_path(rf"^{_route(ApplicationPath.USERS_ME)}/?$", provider.users_me, name="usher-users-me"),
    *(re_path(rf"^{_route(landing)}/?$", provider.landing) for landing in ApplicationPath.LANDINGS),
    path(_route(ApplicationPath.LOGOUT), signout.sign_out, name="usher-sign-out"),
    path(_route(ApplicationPath.BACKCHANNEL_LOGOUT), signout.lms_signed_out),
    path("api/", include("usher.application.api.urls")),
    path("", include("usher.application.webhooks.urls")),
    path(_route(ApplicationPath.HEALTH_LIVE), health.live),
    path(_route(ApplicationPath.HEALTH_READY), health.ready),
    path(_route(ApplicationPath.METRICS), metrics, name="usher-metrics"),
    path("staff/health/", staff.health, name="usher-staff-health"),
]
