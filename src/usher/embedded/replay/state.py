"""The start state of the recordings, and the changes that a recording may require (``given``)."""

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_application_model

from usher.contract.oauth import MITXPRO_OAUTH2, PROVIDER_NAME
from usher.contract.paths import ApplicationPath
from usher.embedded.home import seeds
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig

SERVICE_WORKER = "mit_Application_serviceworker"
APPLICATION_ROOT = "http://app.example:8013"
LMS_ROOT = "http://lms.example:8000"
#: The recorded LMS had this many course runs in addition to the three others that
#: ``create_start_state`` creates.
LOAD_RUNS = 300


def _create_people() -> None:
    seeds.create_person("edx", "edx@example.org", superuser=True)
    seeds.create_person(SERVICE_WORKER, "service@example.org", staff=True)
    seeds.create_person("plainlearner", "plain@example.org")
    seeds.create_person("inactive_one", "inactive@example.org", active=False)


def _create_clients() -> None:
    applications = get_application_model()
    redirect_uris = [APPLICATION_ROOT + path for path in ApplicationPath.LANDINGS]
    common = {"client_type": applications.CLIENT_CONFIDENTIAL, "hash_client_secret": False}
    applications.objects.create(
        name="edx-oauth-app",
        client_id="lms-client-id",
        client_secret="lms-client-secret",  # noqa: S106 - the recordings' own
        authorization_grant_type=applications.GRANT_AUTHORIZATION_CODE,
        skip_authorization=True,
        redirect_uris=" ".join(redirect_uris),
        user=User.objects.get(username="edx"),
        **common,
    )
    applications.objects.create(
        name="svc-cc",
        client_id="svc-client-id",
        client_secret="svc-client-secret",  # noqa: S106 - the recordings' own
        authorization_grant_type=applications.GRANT_CLIENT_CREDENTIALS,
        user=User.objects.get(username=SERVICE_WORKER),
        **common,
    )


def _create_tokens() -> None:
    now = timezone.now()
    client = get_application_model().objects.get(client_id="svc-client-id")
    one_day = timedelta(days=1)
    for token, username, expires in (
        ("service-worker-token", SERVICE_WORKER, now + one_day),
        ("learner-token", "plainlearner", now + one_day),
        ("expired-token", "plainlearner", now - one_day),
    ):
        get_access_token_model().objects.create(
            token=token,
            user=User.objects.get(username=username),
            application=client,
            expires=expires,
            scope="read write email profile",
        )


def _replace_provider_record(application: str, **changed: Any) -> None:
    """Replace all provider records with one. application: the application's address for requests
    from the LMS. changed: fields that differ from the initial values."""
    OAuth2ProviderConfig.objects.all().delete()
    addresses = {
        "AUTHORIZATION_URL": APPLICATION_ROOT + ApplicationPath.AUTHORIZE,
        "ACCESS_TOKEN_URL": application + ApplicationPath.TOKEN,
        "API_ROOT": f"{application}/",
    }
    values = {
        "enabled": True,
        "name": PROVIDER_NAME,
        "slug": MITXPRO_OAUTH2.name,
        "site_id": settings.SITE_ID,
        "skip_hinted_login_dialog": True,
        "skip_registration_form": True,
        "skip_email_verification": True,
        "sync_learner_profile_data": True,
        "enable_sso_id_verification": True,
        "backend_name": MITXPRO_OAUTH2.name,
        "key": "mitx-client-id",
        "secret": "mitx-client-secret",
        "other_settings": json.dumps(addresses),
    }
    OAuth2ProviderConfig.objects.create(**{**values, **changed})


#: State of the provider record, as in ``given`` of a recording → fields with other than the initial
#: values. None: the initial state.
_PROVIDER_STATES: dict[str | None, dict[str, Any]] = {
    None: {},
    "disabled": {"enabled": False},
    "on another site": {"site_id": 1},
    "other_settings empty": {"other_settings": ""},
}
#: The same for the service worker's account.
_SERVICE_WORKER_STATES: dict[str | None, dict[str, bool]] = {
    None: {"is_active": True, "is_staff": True},
    "inactive": {"is_active": False, "is_staff": True},
    "not staff": {"is_active": True, "is_staff": False},
}


@transaction.atomic
def create_start_state(application: str) -> None:
    """Fill a prepared LMS with the start state. application: the application's address for requests
    from the LMS."""
    _create_people()
    _create_clients()
    _create_tokens()
    _replace_provider_record(application)
    seeds.create_load_runs(LOAD_RUNS)
    seeds.create_courses()
    seeds.create_run(
        "course-v1:edX+Closed+2020",
        "Closed Enrollment Course",
        start="2019-01-01",
        end="2020-01-01",
        enrollment_start="2018-01-01",
        enrollment_end="2018-12-31",
    )


@transaction.atomic
def set_records(given: dict[str, Any], application: str) -> None:
    """Set the states of the provider record and the service worker.

    given: may have ``provider``, a key of ``_PROVIDER_STATES``, and ``service_worker``, a key of
    ``_SERVICE_WORKER_STATES``. A record that ``given`` does not name gets its initial state. Raises
    KeyError for an unknown state.
    """
    _replace_provider_record(application, **_PROVIDER_STATES[given.get("provider")])
    service_worker = User.objects.filter(username=SERVICE_WORKER)
    service_worker.update(**_SERVICE_WORKER_STATES[given.get("service_worker")])
