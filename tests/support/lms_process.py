"""An embedded LMS in another process, connected to an application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.served import NO_LIMITS, ServedLms, served_lms
from usher.contract.oauth import DEFAULT_BACKEND, EDX_OAUTH_APP, PROVIDER_NAME, lms_redirect_uri
from usher.contract.provisioning import Application, Description, ServiceWorker

SERVICE_WORKER = "mit_Application_serviceworker"
SERVICE_TOKEN = "service-worker-token-for-tests-0123456789"
CLIENT_ID, CLIENT_SECRET = "application-at-the-lms", "secret-of-the-application-0123456789"
LMS_CLIENT_ID, LMS_CLIENT_SECRET = "lms-at-the-application", "secret-of-the-lms-0123456789abcdef"
WEBHOOK_SECRET = "webhook-secret-for-tests-0123456789"
#: A script that creates the records that an operator creates in the LMS's admin without Usher.
_CREATE_RECORDS = """
import json
from datetime import timedelta
from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_application_model
from usher.embedded.student.models import UserProfile
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig

service_worker, _ = get_user_model().objects.get_or_create(
    username=values["service_worker"], defaults={"email": "worker@example.org"})
service_worker.is_staff, service_worker.is_active = True, True
service_worker.set_password("a random one")
service_worker.save()
UserProfile.objects.get_or_create(user=service_worker, defaults={"name": service_worker.username})
Client = get_application_model()
client, _ = Client.objects.update_or_create(client_id=values["client_id"], defaults={
    "name": values["oauth_name"], "client_secret": values["client_secret"], "user": service_worker,
    "client_type": Client.CLIENT_CONFIDENTIAL, "skip_authorization": True,
    "authorization_grant_type": Client.GRANT_AUTHORIZATION_CODE,
    "redirect_uris": values["redirect_uri"]})
get_access_token_model().objects.update_or_create(token=values["service_worker_token"], defaults={
    "user": service_worker, "application": client, "scope": "read write email profile",
    "expires": timezone.now() + timedelta(days=30)})
OAuth2ProviderConfig.objects.create(
    enabled=True, visible=True, name=values["name"], slug=values["backend"],
    site_id=settings.SITE_ID, backend_name=values["backend"], key=values["key"],
    secret=values["secret"], other_settings=json.dumps(values["addresses"]),
    skip_hinted_login_dialog=True, skip_registration_form=True, skip_email_verification=True,
    sync_learner_profile_data=True, enable_sso_id_verification=True)
"""


class LmsProcess:
    """A served LMS. url: its address. ``manage`` runs a management command and ``shell`` Python
    code; both return the output, and raise DjangoProcessError if they fail."""

    def __init__(self, lms: ServedLms, backend: str = DEFAULT_BACKEND) -> None:
        self.url, self.backend, self._django = lms.url, backend, lms.django

    def manage(self, *arguments: str, text: str = "") -> str:
        return self._django.command(*arguments, text=text).checked()

    def shell(self, script: str) -> str:
        return self._django.run(script).strip()

    def connect_without_plugin(self, application_url: str) -> None:
        """Connects an LMS without ``usher.lms``: creates the service worker, its token, the OAuth
        client and the provider record."""
        root = application_url.rstrip("/")
        values = {
            "service_worker": SERVICE_WORKER,
            "service_worker_token": SERVICE_TOKEN,
            "backend": self.backend,
            "name": PROVIDER_NAME,
            "key": LMS_CLIENT_ID,
            "secret": LMS_CLIENT_SECRET,
            "addresses": {
                "AUTHORIZATION_URL": f"{root}/oauth2/authorize/",
                "ACCESS_TOKEN_URL": f"{root}/oauth2/token/",
                "API_ROOT": f"{root}/",
            },
            "oauth_name": EDX_OAUTH_APP,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uri": f"{root}/login/_private/complete",
        }
        self.shell(f"values = {values!r}\n" + _CREATE_RECORDS)

    def connect_with_plugin(self, application_url: str) -> None:
        """Connects an LMS with ``usher.lms``: runs ``usher_provision``."""
        root = application_url.rstrip("/")
        description = Description(
            applications=[
                Application(
                    name="tested",
                    backend=self.backend,
                    provider_name=PROVIDER_NAME,
                    client_id=LMS_CLIENT_ID,
                    client_secret=LMS_CLIENT_SECRET,
                    authorization_url=f"{root}/oauth2/authorize/",
                    access_token_url=f"{root}/oauth2/token/",
                    api_root=f"{root}/",
                    logout_url=f"{root}/logout/",
                    oauth_name=EDX_OAUTH_APP,
                    oauth_client_id=CLIENT_ID,
                    oauth_client_secret=CLIENT_SECRET,
                    oauth_redirect_uris=[f"{root}/login/_private/complete"],
                    webhook_url=f"{root}/usher/webhooks/lms/",
                    webhook_secret=WEBHOOK_SECRET,
                )
            ],
            service_worker=ServiceWorker(SERVICE_WORKER, "worker@example.org", SERVICE_TOKEN),
        )
        self.manage("usher_provision", "--file", "-", text=description.to_json())

    def application_settings(self, application_url: str) -> dict[str, Any]:
        """Name in ``.env`` → value, for an application at ``application_url`` that is connected to
        the LMS."""
        return {
            "SITE_BASE_URL": application_url,
            "OPENEDX_API_BASE_URL": self.url,
            "OPENEDX_OAUTH_PROVIDER": self.backend,
            "OPENEDX_SOCIAL_LOGIN_PATH": f"/auth/login/{self.backend}/?auth_entry=login",
            "OPENEDX_API_CLIENT_ID": CLIENT_ID,
            "OPENEDX_API_CLIENT_SECRET": CLIENT_SECRET,
            "OPENEDX_SERVICE_WORKER_USERNAME": SERVICE_WORKER,
            "OPENEDX_SERVICE_WORKER_API_TOKEN": SERVICE_TOKEN,
            "USHER_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "EDX_API_CLIENT_TIMEOUT": 60,
        }

    @property
    def redirect_uri(self) -> str:
        """The LMS's redirect URI, for the application's record of the LMS."""
        return lms_redirect_uri(self.url, self.backend)


@contextmanager
def lms_process(
    *, with_plugin: bool = False, with_courses: bool = True, **settings: Any
) -> Iterator[LmsProcess]:
    """A served LMS, not connected yet, without rate limits.

    with_plugin: whether it has ``usher.lms``. with_courses: whether it has two courses. settings:
    for its ``lms.env.yml``.
    """
    plugins = ("usher",) if with_plugin else ()
    seeding = ("seed_courses",) if with_courses else ()
    with served_lms(*seeding, plugins=plugins, **{**NO_LIMITS, **settings}) as lms:
        yield LmsProcess(lms)
