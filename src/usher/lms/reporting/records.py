"""Facts from the LMS database about connections. ``contract.report`` defines their shapes."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX, identify_hasher
from django.contrib.sites.models import Site
from django.db.models import Count, F
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_application_model
from social_django.models import UserSocialAuth

from usher.contract import report
from usher.contract.fingerprints import fingerprint
from usher.lms import conf, outgoing
from usher.lms.connections.models import ConnectedApplication, ServiceWorker
from usher.lms.provisioning.clients import login_service_id
from usher.lms.settings.apply import is_enabled

#: Seconds to connect to the application's token endpoint, and to wait for its answer.
PROBE_TIMEOUT = (5, 25)
#: Bytes of that answer.
LONGEST_PROBE_ANSWER = 64 * 1024
#: The most renamed learners, and the most inactive learners, that a report lists.
MAX_RENAMED = 10
MAX_INACTIVE = 50
#: The waffle flag with which Tutor turns on the dashboard's micro-frontend.
LEARNER_HOME_FLAG = "learner_home_mfe.enabled"
#: Columns of provider records that are true or false, and are reported.
PROVIDER_FLAGS = (
    "enabled",
    "visible",
    "skip_hinted_login_dialog",
    "skip_registration_form",
    "skip_email_verification",
    "sync_learner_profile_data",
    "enable_sso_id_verification",
)


def sites() -> list[report.Site]:
    return [
        {"id": site.pk, "domain": site.domain, "current": site.pk == settings.SITE_ID}
        for site in Site.objects.order_by("pk")
    ]


def newest_providers() -> list[Any]:
    """The current version of each provider record: the newest for each (site, backend)."""
    rows = conf.platform().provider_model().objects.select_related("site")
    newest: dict[tuple[int, str], Any] = {}
    for row in rows.order_by("change_date", "pk"):
        newest[row.site_id, row.backend_name] = row
    return list(newest.values())


def providers() -> list[report.Provider]:
    return [_provider(row) for row in newest_providers()]


def _provider(row: Any) -> Any:
    addresses, error = _other_settings(row.other_settings)
    secret_in_settings = getattr(settings, "SOCIAL_AUTH_OAUTH_SECRETS", {}).get(
        row.backend_name, ""
    )
    description: dict[str, Any] = {
        "backend_name": row.backend_name,
        "name": row.name,
        "slug": row.slug,
        "site_id": row.site_id,
        "site_domain": row.site.domain,
        "client_id": row.key,
        "secret_fingerprint": fingerprint(row.secret or secret_in_settings),
        "other_settings": addresses,
        "other_settings_error": error,
    }
    for flag in PROVIDER_FLAGS:
        description[flag] = getattr(row, flag)
    return description


def _other_settings(text: str) -> tuple[dict[str, Any] | None, str]:
    """The parsed settings without secrets, and ''; or None and the reason they can't be parsed."""
    if not text.strip():
        return None, "it is empty"
    try:
        parsed = json.loads(text)
    except ValueError as error:
        return None, f"it is not JSON: {error}"
    if not isinstance(parsed, dict):
        return None, "it is not a JSON object"
    return {name: value for name, value in parsed.items() if "SECRET" not in name.upper()}, ""


def oauth_clients() -> list[report.OAuthClient]:
    """OAuth clients with the grant *authorization code*, as used by applications."""
    connected = {row.oauth_client_id: row for row in ConnectedApplication.objects.all()}
    model = get_application_model()
    rows = model.objects.filter(authorization_grant_type=model.GRANT_AUTHORIZATION_CODE)
    return [
        {
            "name": row.name,
            "client_id": row.client_id,
            "redirect_uris": row.redirect_uris.split(),
            "client_type": row.client_type,
            "grant_type": row.authorization_grant_type,
            "skip_authorization": row.skip_authorization,
            "secret_fingerprint": _client_secret_fingerprint(row, connected.get(row.client_id)),
        }
        for row in rows.order_by("pk")
    ]


def _client_secret_fingerprint(client: Any, connected: ConnectedApplication | None) -> str:
    """The fingerprint of the client's secret; '' when the LMS stores only a hash of the secret and
    provisioning did not write that hash. connected: the client's application, if it is connected.
    """
    try:
        identify_hasher(client.client_secret)
    except ValueError:
        return fingerprint(client.client_secret)
    if connected is None:
        return ""
    is_provisioned_hash = connected.oauth_client_hash_fingerprint == fingerprint(
        client.client_secret
    )
    return connected.oauth_client_secret_fingerprint if is_provisioned_hash else ""


def login_service_exists() -> bool:
    """Whether the OAuth client of the LMS's own sign-in exists."""
    return get_application_model().objects.filter(client_id=login_service_id()).exists()


def service_worker(application: ConnectedApplication | None = None) -> report.ServiceWorker | None:
    """The service worker of ``application``, or of the application that was connected first."""
    workers = ServiceWorker.objects.select_related("user").filter(application__isnull=False)
    if application is not None:
        workers = workers.filter(application=application)
    worker = workers.order_by("application_id").first()
    if worker is None:
        return None
    tokens = get_access_token_model().objects.filter(user=worker.user, expires__gt=timezone.now())
    own_tokens = [
        token
        for token in tokens.order_by("-expires")
        if fingerprint(token.token) == worker.token_fingerprint
    ]
    latest_token = own_tokens[0] if own_tokens else None
    return {
        "username": worker.user.get_username(),
        "application": worker.application.name if worker.application else "",
        "is_superuser": worker.user.is_superuser,
        "is_staff": worker.user.is_staff,
        "is_active": worker.user.is_active,
        "token_fingerprint": worker.token_fingerprint if latest_token else "",
        "token_expires": latest_token.expires.isoformat() if latest_token else None,
    }


def learners(application: ConnectedApplication | None = None) -> report.Learners:
    """Learners of ``application``, or of all connected applications. ``by_backend`` always counts
    the links of every backend."""
    connected = ConnectedApplication.objects.values("backend")
    links = UserSocialAuth.objects.filter(provider__in=connected)
    if application is not None:
        links = links.filter(provider=application.backend)
    renamed = links.exclude(uid=F("user__username"))
    inactive = links.filter(user__is_active=False).order_by("-pk")
    return {
        "linked": links.count(),
        "unusable_password": links.filter(
            user__password__startswith=UNUSABLE_PASSWORD_PREFIX
        ).count(),
        "other_name": renamed.count(),
        "renamed": list(renamed.values_list("uid", "user__username")[:MAX_RENAMED]),
        "inactive": list(inactive.values_list("user__username", flat=True)[:MAX_INACTIVE]),
        "by_backend": _links_by_backend(),
    }


def _links_by_backend() -> dict[str, int]:
    counts = UserSocialAuth.objects.values_list("provider").annotate(links=Count("pk"))
    return dict(counts.order_by("provider"))


def learner_home() -> report.LearnerHome:
    """Whether the dashboard is a micro-frontend, which Tutor turns on with a waffle flag."""
    from waffle.models import Flag

    url = str(getattr(settings, "LEARNER_HOME_MICROFRONTEND_URL", "") or "")
    is_flag_on = Flag.objects.filter(name=LEARNER_HOME_FLAG, everyone=True).exists()
    return {"micro_frontend": bool(is_flag_on and url), "url": url if is_flag_on else ""}


def direct_registration() -> bool:
    """Whether people can register in the LMS without an application."""
    return not is_enabled(settings) or bool(getattr(settings, "USHER_DIRECT_REGISTRATION", False))


def connections() -> list[report.Connection]:
    return [
        {
            "name": row.name,
            "backend": row.backend,
            "webhook_url": row.webhook_url,
            "webhook_secret_fingerprint": fingerprint(row.webhook_secret),
            "backchannel_logout_url": row.backchannel_logout_url,
            "jwks_url": row.jwks_url,
        }
        for row in ConnectedApplication.objects.order_by("pk")
    ]


def probe_token_endpoints() -> list[report.TokenProbe]:
    """Send an invalid code to each application's token endpoint, from this process and with the
    stored credentials. The answers show whether sign-ins would succeed."""
    rows_of_site = [
        row for row in newest_providers() if row.enabled and row.site_id == settings.SITE_ID
    ]
    return [_probe_token_endpoint(row) for row in rows_of_site]


def _probe_token_endpoint(row: Any) -> report.TokenProbe:
    """Send an invalid code to the token endpoint of a provider record, and describe the answer.
    ``oauth_error`` is '' if the answer names none; ``error`` names the exception if there was no
    answer, else is ''."""
    addresses, _ = _other_settings(row.other_settings)  # ``providers`` reports the error
    url = str((addresses or {}).get("ACCESS_TOKEN_URL") or "")
    probe: report.TokenProbe = {
        "backend_name": row.backend_name,
        "url": url,
        "status": None,
        "oauth_error": "",
        "error": "",
    }
    secrets = getattr(settings, "SOCIAL_AUTH_OAUTH_SECRETS", {})
    form = {
        "grant_type": "authorization_code",
        "code": "usher-probe-that-does-not-exist",
        "redirect_uri": f"{settings.LMS_ROOT_URL}/auth/complete/{row.backend_name}/",
        "client_id": row.key,
        "client_secret": row.secret or secrets.get(row.backend_name, ""),
    }
    try:
        with outgoing.send("POST", url, data=form, timeout=PROBE_TIMEOUT) as answer:
            probe["status"] = answer.status_code
            content = outgoing.read_body(
                answer, longest=LONGEST_PROBE_ANSWER, seconds=sum(PROBE_TIMEOUT)
            )
    except outgoing.NO_ANSWER as error:
        # Without a status there was no answer; else its body is of no use.
        probe["error"] = "" if probe["status"] else type(error).__name__
        return probe
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = {}
    probe["oauth_error"] = str(body.get("error", "")) if isinstance(body, dict) else ""
    return probe
