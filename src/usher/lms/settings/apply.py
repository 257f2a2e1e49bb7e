"""The settings themselves. ``settings`` is a settings module: its attributes are the settings."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any
from urllib.parse import urlsplit

from usher.contract.oauth import BACKENDS
from usher.lms.backends import class_path

log = logging.getLogger(__name__)

#: Features that sign-in through the application needs.
FEATURES = {
    "ALLOW_PUBLIC_ACCOUNT_CREATION": True,
    "ENABLE_COMBINED_LOGIN_REGISTRATION": True,
    "ENABLE_THIRD_PARTY_AUTH": True,
    "ENABLE_OAUTH2_PROVIDER": True,
    "SKIP_EMAIL_VALIDATION": True,
}
#: Hidden, because the application has asked for all of these.
HIDDEN_FIELDS = ("country", "honor_code", "terms_of_service")
MIDDLEWARE = "usher.lms.middleware.AnonymousToApplication"
#: Seconds for the application's answers during sign-in. social-core's own 5 are too few for an
#: application that has just started or is busy: the learner would see an error page.
ANSWER_TIMEOUT = 20.0


def set_defaults(settings: Any) -> None:
    """Usher's own settings, if not set. Names and meaning: docs/lms.md."""
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


def is_on(settings: Any) -> bool:
    """Without ``USHER_BACKENDS`` the LMS is left as it is: so an image that still holds the package
    is a plain LMS again as soon as its configuration no longer names an application."""
    return bool(getattr(settings, "USHER_BACKENDS", None))


def apply(settings: Any) -> None:
    """Everything that must be there before the platform's apps are loaded. Safe to repeat."""
    set_defaults(settings)
    if not is_on(settings):
        return
    for name, value in FEATURES.items():
        set_feature(settings, name, value)
    if settings.USHER_RETIREMENT:
        set_feature(settings, "ENABLE_BULK_USER_RETIREMENT", True)
    hide_fields(settings)
    add_backends(settings)
    raise_registration_limit(settings)
    wait_for_the_application(settings)
    apply_late(settings)


def apply_late(settings: Any) -> None:
    """What the platform reads at each request: repeated when the app is ready, so that it holds
    whatever was set after the plugin's turn."""
    if not is_on(settings):
        return
    set_hint(settings)
    add_logout_addresses(settings)
    if (
        getattr(settings, "USHER_REDIRECT_ANONYMOUS", False)
        and MIDDLEWARE not in settings.MIDDLEWARE
    ):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]


def wait_for_the_application(settings: Any) -> None:
    """A time-out that the operator set stays."""
    names = ("SOCIAL_AUTH_REQUESTS_TIMEOUT", "SOCIAL_AUTH_URLOPEN_TIMEOUT")
    if not any(getattr(settings, name, None) for name in names):
        settings.SOCIAL_AUTH_REQUESTS_TIMEOUT = ANSWER_TIMEOUT


def set_feature(settings: Any, name: str, value: Any) -> None:
    """In ``FEATURES``, and flat where the release has flat settings."""
    if not hasattr(settings, "FEATURES"):
        settings.FEATURES = {}
    settings.FEATURES[name] = value
    if hasattr(settings, name):
        setattr(settings, name, value)


def hide_fields(settings: Any) -> None:
    fields = dict(getattr(settings, "REGISTRATION_EXTRA_FIELDS", {}))
    fields.update(dict.fromkeys(HIDDEN_FIELDS, "hidden"))
    settings.REGISTRATION_EXTRA_FIELDS = fields


def usable_backends(settings: Any) -> dict[str, str]:
    """``USHER_BACKENDS`` without those whose package is not installed.

    A missing package must not keep the LMS from starting: it is left out, logged and reported.
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
    """In both lists: production builds AUTHENTICATION_BACKENDS from THIRD_PARTY_AUTH_BACKENDS
    before plugins have their turn, so the one alone would have no effect on the other."""
    paths = [class_path(name, base) for name, base in usable_backends(settings).items()]
    for setting in ("THIRD_PARTY_AUTH_BACKENDS", "AUTHENTICATION_BACKENDS"):
        present = list(getattr(settings, setting, None) or [])
        setattr(settings, setting, [p for p in paths if p not in present] + present)


def set_hint(settings: Any) -> None:
    """``/login`` and ``/register`` lead to the default application, micro-frontend or not.

    ``USHER_DEFAULT_BACKEND``: which of several; an empty one leaves the choice to the learner.
    """
    backends = getattr(settings, "USHER_BACKENDS", {})
    default = getattr(settings, "USHER_DEFAULT_BACKEND", next(iter(backends), ""))
    if default:
        set_feature(settings, "THIRD_PARTY_AUTH_HINT", f"oa2-{default}")


def add_logout_addresses(settings: Any) -> None:
    """Each application's ``/logout/`` is called when a learner signs out of the LMS, and its host
    may be returned to."""
    addresses = list(getattr(settings, "USHER_LOGOUT_URIS", []))
    present = list(getattr(settings, "IDA_LOGOUT_URI_LIST", []))
    settings.IDA_LOGOUT_URI_LIST = present + [uri for uri in addresses if uri not in present]
    hosts = list(getattr(settings, "LOGIN_REDIRECT_WHITELIST", []))
    new_hosts = dict.fromkeys(urlsplit(uri).netloc for uri in addresses)
    settings.LOGIN_REDIRECT_WHITELIST = hosts + [host for host in new_hosts if host not in hosts]


def raise_registration_limit(settings: Any) -> None:
    """The service worker is not limited; everybody else keeps the limit that was set."""
    ours = "usher.lms.limits.registration_rate"
    present = getattr(settings, "REGISTRATION_RATELIMIT", None)
    if present != ours:
        settings.USHER_REGISTRATION_RATELIMIT = present or "60/7d"
        settings.REGISTRATION_RATELIMIT = ours
