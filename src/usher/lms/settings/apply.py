"""Functions that change the LMS's settings. Each gets ``settings``, the settings module."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any
from urllib.parse import urlsplit

from usher.contract.oauth import BACKENDS
from usher.lms.backends import class_path

log = logging.getLogger(__name__)

#: Feature flags that sign-in through an application needs.
FEATURES = {
    "ALLOW_PUBLIC_ACCOUNT_CREATION": True,
    "ENABLE_COMBINED_LOGIN_REGISTRATION": True,
    "ENABLE_THIRD_PARTY_AUTH": True,
    "ENABLE_OAUTH2_PROVIDER": True,
    "SKIP_EMAIL_VALIDATION": True,
}
#: Fields hidden in the registration form, because the application has already asked for them.
HIDDEN_FIELDS = ("country", "honor_code", "terms_of_service")
MIDDLEWARE = "usher.lms.middleware.AnonymousToApplication"
#: Seconds to wait for the application's answers during sign-in. social-core's default of 5 is too
#: short for an application that has just started or is busy: the learner would see an error page.
ANSWER_TIMEOUT = 20.0
#: The platform's own limit: 60 registrations from one address in 7 days.
DEFAULT_REGISTRATION_RATE = "60/7d"


def set_defaults(settings: Any) -> None:
    """Set the defaults of Usher's own settings; see ``usher.lms.settings``."""
    defaults = {
        "USHER_PLATFORM": "usher.lms.platform",
        "USHER_BACKENDS": {},
        "USHER_LOGOUT_URIS": [],
        "USHER_REDIRECT_ANONYMOUS": False,
        "USHER_DIRECT_REGISTRATION": False,
        "USHER_RETIREMENT": False,
        "SOCIAL_AUTH_OAUTH_SECRETS": {},
    }
    for name, value in defaults.items():
        if not hasattr(settings, name):
            setattr(settings, name, value)


def is_enabled(settings: Any) -> bool:
    """Whether ``USHER_BACKENDS`` names an application. If it names none, the plugin changes
    nothing, and the LMS works as without Usher."""
    return bool(getattr(settings, "USHER_BACKENDS", None))


def apply(settings: Any) -> None:
    """Apply all settings that must be present before the platform's apps are loaded. Idempotent."""
    set_defaults(settings)
    if not is_enabled(settings):
        return
    for name, value in FEATURES.items():
        set_feature(settings, name, value)
    if settings.USHER_RETIREMENT:
        set_feature(settings, "ENABLE_BULK_USER_RETIREMENT", True)
    hide_fields(settings)
    add_backends(settings)
    exempt_service_worker_from_registration_limit(settings)
    set_answer_timeout(settings)
    apply_late(settings)


def apply_late(settings: Any) -> None:
    """Apply the settings that the platform reads at each request. Called again when the app is
    ready, because later settings modules may have overwritten them."""
    if not is_enabled(settings):
        return
    redirect_to_default_application(settings)
    add_logout_urls(settings)
    if (
        getattr(settings, "USHER_REDIRECT_ANONYMOUS", False)
        and MIDDLEWARE not in settings.MIDDLEWARE
    ):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]


def set_answer_timeout(settings: Any) -> None:
    """Set ``ANSWER_TIMEOUT``, unless the operator has set a timeout."""
    names = ("SOCIAL_AUTH_REQUESTS_TIMEOUT", "SOCIAL_AUTH_URLOPEN_TIMEOUT")
    if not any(getattr(settings, name, None) for name in names):
        settings.SOCIAL_AUTH_REQUESTS_TIMEOUT = ANSWER_TIMEOUT


def set_feature(settings: Any, name: str, value: Any) -> None:
    """Set a flag in ``FEATURES``, and also the setting of that name if the release has one."""
    if not hasattr(settings, "FEATURES"):
        settings.FEATURES = {}
    settings.FEATURES[name] = value
    if hasattr(settings, name):
        setattr(settings, name, value)


def hide_fields(settings: Any) -> None:
    """Hide ``HIDDEN_FIELDS`` in the registration form."""
    fields = dict(getattr(settings, "REGISTRATION_EXTRA_FIELDS", {}))
    fields.update(dict.fromkeys(HIDDEN_FIELDS, "hidden"))
    settings.REGISTRATION_EXTRA_FIELDS = fields


def usable_backends(settings: Any) -> dict[str, str]:
    """``USHER_BACKENDS`` without those whose package is not installed.

    A missing package must not keep the LMS from starting: its backend is left out, logged and
    reported.
    """
    usable = {}
    for name, base in settings.USHER_BACKENDS.items():
        package = BACKENDS[base].class_path.split(".")[0] if base in BACKENDS else ""
        if package and importlib.util.find_spec(package):
            usable[name] = base
        else:
            log.error("Sign-in backend %s is left out: %s is not installed.", name, package or base)
    return usable


def add_backends(settings: Any) -> None:
    """Add the backends to THIRD_PARTY_AUTH_BACKENDS and AUTHENTICATION_BACKENDS.
    ``lms.envs.production`` builds the second list from the first before plugins run, so a change of
    the first list alone comes too late."""
    paths = [class_path(name, base) for name, base in usable_backends(settings).items()]
    for setting in ("THIRD_PARTY_AUTH_BACKENDS", "AUTHENTICATION_BACKENDS"):
        present = list(getattr(settings, setting, None) or [])
        missing = [path for path in paths if path not in present]
        setattr(settings, setting, missing + present)


def redirect_to_default_application(settings: Any) -> None:
    """Make ``/login`` and ``/register`` redirect to the default application, with or without the
    authentication micro-frontend. An empty ``USHER_DEFAULT_BACKEND`` lets the learner choose."""
    backends = getattr(settings, "USHER_BACKENDS", {})
    default = getattr(settings, "USHER_DEFAULT_BACKEND", next(iter(backends), ""))
    if default:
        set_feature(settings, "THIRD_PARTY_AUTH_HINT", f"oa2-{default}")


def add_logout_urls(settings: Any) -> None:
    """Call each application's sign-out URL when a learner signs out of the LMS, and allow redirects
    to its host."""
    addresses = list(getattr(settings, "USHER_LOGOUT_URIS", []))
    present = list(getattr(settings, "IDA_LOGOUT_URI_LIST", []))
    settings.IDA_LOGOUT_URI_LIST = present + [uri for uri in addresses if uri not in present]
    hosts = list(getattr(settings, "LOGIN_REDIRECT_WHITELIST", []))
    new_hosts = dict.fromkeys(urlsplit(uri).netloc for uri in addresses)
    settings.LOGIN_REDIRECT_WHITELIST = hosts + [host for host in new_hosts if host not in hosts]


def exempt_service_worker_from_registration_limit(settings: Any) -> None:
    """Exempt the service worker from the registration limit. The limit stays for everybody else."""
    own_rate = "usher.lms.limits.registration_rate"
    present = getattr(settings, "REGISTRATION_RATELIMIT", None)
    if present != own_rate:
        settings.USHER_REGISTRATION_RATELIMIT = present or DEFAULT_REGISTRATION_RATE
        settings.REGISTRATION_RATELIMIT = own_rate
