"""The one settings object: ``conf.settings()``.

Reads Django's settings under the names that MITx Online and MIT xPro already use
(``usher.contract.environment.Env``), adds defaults and converts types. Django's system checks name
each setting that is missing or malformed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from usher.application.defaults import environment
from usher.client.addresses import BadAddress, base, normalise
from usher.client.errors import NotConfigured
from usher.contract.environment import Env
from usher.contract.oauth import (
    BACKENDS,
    DEFAULT_BACKEND,
    EDX_OAUTH_APP,
    MITXPRO_OAUTH2,
    OL_OAUTH2,
    social_login_path,
)
from usher.contract.paths import LmsPath

#: Edition → default LMS address and backend. '' stands for a project without ``USHER_EDITION``;
#: such a project has no LMS until a setting names one.
_LMS_OF_EDITION = {
    "mitxonline": ("http://edx.odl.local:18000", MITXPRO_OAUTH2.name),
    "mitxpro": ("http://local.openedx.io:8000", OL_OAUTH2.name),
    "": ("", DEFAULT_BACKEND),
}
_EDITIONS_WITH_LMS = [edition for edition, (address, _) in _LMS_OF_EDITION.items() if address]
#: The parts of a course home's path in the LMS, before and after the course key.
_COURSE_BASE, _COURSE_SUFFIX = LmsPath.COURSE_HOME.split("{course_key}")

#: Settings without which the application is not connected to an LMS. ``usher connect`` writes them.
REQUIRED = (
    Env.OPENEDX_API_CLIENT_ID,
    Env.OPENEDX_API_CLIENT_SECRET,
    Env.OPENEDX_SERVICE_WORKER_USERNAME,
    Env.OPENEDX_SERVICE_WORKER_API_TOKEN,
)


@dataclass(frozen=True)
class Settings:
    """Addresses have no trailing slash, except ``course_base_url``, and ``logout_redirect_url`` if
    it is set with one. A text that is not set is ''.

    site_base_url: this application's address for browsers. api_base_url: the LMS's address for
    servers; '' if no LMS is configured. base_redirect_url: the LMS's address for browsers.
    course_base_url and course_base_url_suffix: the parts of a course run's address before and after
    its key. oauth_provider: the name of the LMS's backend. oauth_app_name: the name of the LMS's
    OAuth client here. encryption_keys: newest first. timeout_seconds: for one request to the LMS.
    """

    site_base_url: str
    api_base_url: str
    base_redirect_url: str
    course_base_url: str
    course_base_url_suffix: str
    logout_redirect_url: str
    social_login_path: str
    oauth_provider: str
    oauth_app_name: str
    api_client_id: str
    api_client_secret: str = field(repr=False)
    service_worker_username: str
    service_worker_api_token: str = field(repr=False)
    registration_access_token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    encryption_keys: tuple[str, ...]
    timeout_seconds: float

    def course_path(self, course_key: str) -> str:
        """The address of a run's home page: a path if it is below ``base_redirect_url``, else a
        URL. Raises TypeError if ``course_key`` is not a str, for example a course run."""
        if not isinstance(course_key, str):
            raise TypeError(
                f"course_path takes a course key, such as run.course_key, not {course_key!r}"
            )
        url = f"{self.course_base_url}{course_key}{self.course_base_url_suffix}"
        # The slash is needed: http://lms.example:2000 is not below http://lms.example.
        is_below = url.startswith(self.base_redirect_url + "/")
        return url.removeprefix(self.base_redirect_url) if is_below else url

    def sign_in_url(self, next_path: str = LmsPath.DASHBOARD) -> str:
        """The address that signs a browser in at the LMS and then opens ``next_path`` there. Raises
        NotConfigured if no LMS is configured, and TypeError if ``next_path`` is not a str."""
        if not isinstance(next_path, str):
            raise TypeError(f"sign_in_url takes a path of the LMS, not {next_path!r}")
        if not self.base_redirect_url:
            raise NotConfigured
        separator = "&" if "?" in self.social_login_path else "?"
        query = urlencode({"next": next_path})
        return f"{self.base_redirect_url}{self.social_login_path}{separator}{query}"

    @property
    def backchannel_logout_url(self) -> str:
        """The LMS's endpoint for signed sign-out messages, at the LMS's address for servers; '' if
        no LMS is configured."""
        if not self.api_base_url:
            return ""
        path = LmsPath.USHER_BACKCHANNEL_LOGOUT.format(backend=self.oauth_provider)
        return self.api_base_url + path


#: ``<application>-oauth2``: see ``_Reader.backend``.
_BACKEND_OF_APPLICATION = re.compile(r"[a-z0-9][a-z0-9-]{0,22}-oauth2")


class _Reader:
    """Reads values from Django's settings. For a malformed value, returns the default, and adds a
    sentence to ``problems``."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        value = getattr(self.source, name, None)
        text = "" if value is None else str(value).strip()
        return text or default

    def url(self, name: str, default: str = "") -> str:
        """An absolute http(s) address, normalized. Without a trailing slash, except for the address
        after sign-out."""
        value = self.text(name, default)
        if not value:
            return ""
        try:
            return normalise(value) if name == Env.LOGOUT_REDIRECT_URL else base(value)
        except BadAddress as error:
            # The value may contain a password, which must not be shown.
            text = "not usable" if "@" in value else repr(value)
            self.problems.append(f"{name} is {text}: {error}; write one like http://host:8000")
            return default

    def path(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not value.startswith("/") or value.startswith("//"):
            self.problems.append(f"{name} is {value!r}: write a path that starts with one slash")
            return default
        return value

    def number(self, name: str, default: float, convert: Callable[[str], float]) -> float:
        value = self.text(name, str(default))
        try:
            number = convert(value)
        except ValueError:
            number = 0  # reported below, as is inf or nan
        if not 0 < number < 10**9:
            self.problems.append(f"{name} is {value!r}: write a number above 0")
            return default
        return number

    def choice(self, name: str, default: str, choices: Mapping[str, Any]) -> str:
        value = self.text(name, default)
        if value not in choices:
            self.problems.append(f"{name} is {value!r}: write one of {', '.join(choices)}")
            return default
        return value

    def backend(self, name: str, default: str) -> str:
        """A known backend, or ``<application>-oauth2``, the name that ``usher connect`` gives to
        the second application of an LMS."""
        value = self.text(name, default)
        if value not in BACKENDS and not _BACKEND_OF_APPLICATION.fullmatch(value):
            backend_names = ", ".join(BACKENDS)
            self.problems.append(
                f"{name} is {value!r}: write one of {backend_names}, or a name of your own that "
                "ends in -oauth2, as in the LMS's provider record"
            )
            return default
        return value


def read(source: Any) -> tuple[Settings, list[str]]:
    """Reads Usher's settings from ``source``, Django's settings. Also returns a sentence for each
    malformed setting, which says what to write."""
    reader = _Reader(source)
    edition = reader.choice("USHER_EDITION", default="", choices=_LMS_OF_EDITION)
    default_api_url, default_backend = _LMS_OF_EDITION[edition]
    api_url = reader.url(Env.OPENEDX_API_BASE_URL, default_api_url)
    browser_url = reader.url(Env.OPENEDX_BASE_REDIRECT_URL, api_url)
    backend = reader.backend(Env.OPENEDX_OAUTH_PROVIDER, default_backend)
    settings = Settings(
        site_base_url=reader.url("SITE_BASE_URL"),
        api_base_url=api_url,
        base_redirect_url=browser_url,
        course_base_url=_course_base_url(reader, browser_url),
        course_base_url_suffix=reader.text(Env.OPENEDX_COURSE_BASE_URL_SUFFIX, _COURSE_SUFFIX),
        logout_redirect_url=reader.url(Env.LOGOUT_REDIRECT_URL),
        social_login_path=reader.path(Env.OPENEDX_SOCIAL_LOGIN_PATH, social_login_path(backend)),
        oauth_provider=backend,
        oauth_app_name=reader.text(Env.OPENEDX_OAUTH_APP_NAME, EDX_OAUTH_APP),
        api_client_id=reader.text(Env.OPENEDX_API_CLIENT_ID),
        api_client_secret=reader.text(Env.OPENEDX_API_CLIENT_SECRET),
        service_worker_username=reader.text(Env.OPENEDX_SERVICE_WORKER_USERNAME),
        service_worker_api_token=reader.text(Env.OPENEDX_SERVICE_WORKER_API_TOKEN),
        registration_access_token=reader.text(Env.MITX_ONLINE_REGISTRATION_ACCESS_TOKEN)
        or reader.text(Env.MITXPRO_REGISTRATION_ACCESS_TOKEN),
        webhook_secret=reader.text(Env.USHER_WEBHOOK_SECRET),
        encryption_keys=_encryption_keys(reader),
        timeout_seconds=reader.number(Env.EDX_API_CLIENT_TIMEOUT, default=60, convert=float),
    )
    _check_same_backend(reader, settings)
    return settings, reader.problems


def _course_base_url(reader: _Reader, browser_url: str) -> str:
    """The part of a course run's address before its key, with a slash at the end; only a path if no
    LMS is configured. browser_url: the LMS's address for browsers, or ''."""
    default = browser_url + _COURSE_BASE if browser_url else ""
    return (reader.url(Env.OPENEDX_COURSE_BASE_URL, default) or _COURSE_BASE.rstrip("/")) + "/"


def _encryption_keys(reader: _Reader) -> tuple[str, ...]:
    text = reader.text(Env.USHER_ENCRYPTION_KEYS)
    return tuple(key.strip() for key in text.split(",") if key.strip())


def _check_same_backend(reader: _Reader, settings: Settings) -> None:
    """Reports a problem if two settings name different backends: sign-in would end at the LMS's
    error page."""
    start = LmsPath.sign_in_start(settings.oauth_provider)
    path = settings.social_login_path
    if path.startswith("/auth/login/") and not path.startswith(start):
        reader.problems.append(
            f"{Env.OPENEDX_SOCIAL_LOGIN_PATH} is {path!r}, but {Env.OPENEDX_OAUTH_PROVIDER} is "
            f"{settings.oauth_provider!r}: write a path that starts with {start}"
        )


def settings() -> Settings:
    """The settings of this process. Raises ImproperlyConfigured, which names all malformed
    settings."""
    return _settings(_django_settings_changes)


#: How often Django's settings were changed in this process. Only tests change them.
_django_settings_changes = 0


@lru_cache(maxsize=1)
def _settings(_changes: int) -> Settings:
    """Reads the settings, or returns them from the cache. The number of changes is the cache's key.
    So no caller gets settings that another thread read before the last change."""
    settings_read, problems = read(django_settings)
    if problems := [*problems, *environment.malformed(django_settings)]:
        raise ImproperlyConfigured("; ".join(problems))
    return settings_read


def missing() -> list[str]:
    """The names of required settings that have no value."""
    reader = _Reader(django_settings)
    has_default = reader.text("USHER_EDITION") in _EDITIONS_WITH_LMS
    # The LMS's address is needed unless the edition has a default for it.
    needed = REQUIRED if has_default else (Env.OPENEDX_API_BASE_URL, *REQUIRED)
    return [name for name in needed if not reader.text(name)]


def _count_settings_change(**_kwargs: Any) -> None:
    global _django_settings_changes
    _django_settings_changes += 1


setting_changed.connect(_count_settings_change, dispatch_uid="usher.application.conf")
