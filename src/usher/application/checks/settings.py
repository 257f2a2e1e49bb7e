"""Settings of the connection, the OAuth2 provider, metrics and the adapter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as WarningMessage
from django.core.exceptions import ImproperlyConfigured

from usher.application import conf
from usher.application.adapter import adapter, misspelt_methods, problems_of_methods
from usher.application.defaults import INSTALLED_APPS, KEYED_HASHER, MIDDLEWARE, environment
from usher.application.metrics.views import networks_of_settings
from usher.application.tokens.vault import fernet_of_keys
from usher.contract.cookies import LMS_SESSION_COOKIE, session_cookies_collide
from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.environment import Env
from usher.contract.folders import how_to_use_lms_of_dev

#: Uses ``printf``: in some shells, ``echo`` turns each \\n into a line break.
_COMMAND_FOR_NEW_KEY = (
    "$ printf \"OIDC_RSA_PRIVATE_KEY='%s'\\n\" "
    '"$(openssl genrsa 2048 | awk \'{printf "%s\\\\n", $0}\')" >> .env'
)
_CALL_APPLY = (
    "Call defaults.apply(globals()) at the end of settings.py, after `from usher.application "
    "import defaults`."
)


#: Warnings about sign-in and sign-out. Until an LMS is connected, only ``check --deploy`` shows
#: them: otherwise each command of ``manage.py`` would print them next to W001.
_ONLY_WITH_LMS = {"usher.W002", "usher.W007"}


def messages() -> Iterator[CheckMessage]:
    hidden = _ONLY_WITH_LMS if conf.missing() else set()
    return (message for message in _all_messages() if message.id not in hidden)


def deploy_messages() -> Iterator[CheckMessage]:
    """The warnings that ``messages`` leaves out until an LMS is connected."""
    if conf.missing():
        yield from (
            message for message in (*_site(), *_signing_key()) if message.id in _ONLY_WITH_LMS
        )


def _all_messages() -> Iterator[CheckMessage]:
    yield from _apps()
    yield from _sessions()
    yield from _connection()
    yield from _site()
    yield from _hashers()
    yield from _signing_key()
    yield from _provider()
    yield from _adapter()
    yield from _email()
    yield from _metrics()


def _metrics() -> Iterator[CheckMessage]:
    for network in networks_of_settings():
        try:
            ip_network(network, strict=False)
        except ValueError as error:
            yield Error(
                f"USHER_METRICS_NETWORKS: {error}.",
                hint="Write networks such as 10.0.0.0/8, separated by commas.",
                id="usher.E016",
            )


def _apps() -> Iterator[CheckMessage]:
    # ``INSTALLED_APPS`` are the apps that ``defaults.apply`` adds; the console is optional.
    needed = (name for name in INSTALLED_APPS if name != "usher.console")
    if absent := [name for name in needed if not apps.is_installed(name)]:
        yield Error(f"INSTALLED_APPS lacks {', '.join(absent)}.", hint=_CALL_APPLY, id="usher.E005")


def _sessions() -> Iterator[CheckMessage]:
    if absent := [name for name in MIDDLEWARE if name not in django_settings.MIDDLEWARE]:
        yield WarningMessage(
            f"MIDDLEWARE lacks {', '.join(absent)}: a learner who changes their password, and then "
            "signs out of the LMS, stays signed in here.",
            hint=_CALL_APPLY,
            id="usher.W008",
        )
    if django_settings.SESSION_ENGINE.endswith("signed_cookies"):
        yield WarningMessage(
            "SESSION_ENGINE keeps sessions in cookies, which the server can't end: a learner who "
            "signs out of the LMS stays signed in here.",
            hint="Use a session engine that stores sessions in the database or a cache.",
            id="usher.W009",
        )


def _connection() -> Iterator[CheckMessage]:
    yield from _env_file()
    settings_read, problems = conf.read(django_settings)
    for problem in [*problems, *environment.malformed(django_settings)]:
        name = problem.split()[0]  # each problem begins with the setting's name
        yield Error(f"{problem}.", hint=_correction_hint(name), id="usher.E001")
    try:
        if settings_read.encryption_keys:
            fernet_of_keys(settings_read.encryption_keys)
    except ImproperlyConfigured as error:
        yield Error(str(error), hint=_correction_hint(Env.USHER_ENCRYPTION_KEYS), id="usher.E001")
    for name, correct_name in environment.misspelt(_all_names()):
        yield WarningMessage(
            f"{name} is not a setting of Usher and has no effect.",
            hint=f"Did you mean {correct_name}?",
            id="usher.W011",
        )
    if missing := conf.missing():
        yield WarningMessage(
            f"Not connected to an LMS yet: {', '.join(missing)} not set.",
            hint=_connect_hint(),
            id="usher.W001",
        )


def _connect_hint() -> str:
    if advice := how_to_use_lms_of_dev():
        return f"For production, run `usher connect`. {advice}"
    return "Run `usher dev` or `usher connect`, or set them in the .env file."


def _correction_hint(name: str) -> str:
    """A hint where to correct a setting: in the environment or the ``.env`` if its value is from
    there, else in the settings module."""
    value = str(getattr(django_settings, name, ""))
    if os.environ.get(name, "").strip() == value.strip():
        return f"Correct the environment variable {name}."
    if _env_file_values().get(name, "").strip() == value.strip():
        return f"Correct it in this file: {_env_file_path()}"
    return "Correct it in your settings."


def _all_names() -> list[str]:
    """The names of settings, environment variables, and lines of the ``.env``."""
    return sorted({*dir(django_settings), *os.environ, *_env_file_values()})


def _env_file_values() -> dict[str, str]:
    """The values in the ``.env``, by name."""
    with suppress(EnvFileError, OSError):  # reported by _env_file
        if path := _env_file_path():
            return EnvFile.read(Path(path)).values()
    return {}


def _env_file_path() -> str:
    return str(getattr(django_settings, "USHER_ENV_FILE", "") or "")


def _env_file() -> Iterator[CheckMessage]:
    """Lines of the ``.env`` whose values are not read as they are written."""
    path = _env_file_path()
    if not path:
        return
    try:
        problems = EnvFile.read(Path(path)).problems()
    except (EnvFileError, OSError) as error:
        yield WarningMessage(f"{error}.", id="usher.W010")
        return
    for problem in problems:
        if problem.serious:
            yield WarningMessage(f"{path}, {problem}.", hint="Correct that line.", id="usher.W010")


def _site() -> Iterator[CheckMessage]:
    settings_read, _ = conf.read(django_settings)
    if not settings_read.site_base_url:
        if getattr(django_settings, "SITE_BASE_URL", ""):
            return  # malformed: _connection reports it
        # Until an LMS is connected this is a warning, because an error would stop makemigrations.
        is_connected = not conf.missing()
        message_class = Error if is_connected else WarningMessage
        yield message_class(
            "SITE_BASE_URL is not set: the LMS gets no address of this application.",
            hint="Set SITE_BASE_URL in the environment or in .env, or give site_base_url= to "
            "defaults.apply(). Example:\n$ echo SITE_BASE_URL=https://shop.example.org >> .env",
            id="usher.E006" if is_connected else "usher.W007",
        )
        return
    site = urlsplit(settings_read.site_base_url)
    if not _is_allowed(site.hostname or ""):
        yield Error(
            f"ALLOWED_HOSTS lacks {site.hostname}, the host of SITE_BASE_URL: Django answers the "
            "LMS's requests with 400.",
            hint=f"Add {site.hostname!r} to ALLOWED_HOSTS.",
            id="usher.E007",
        )
    if session_cookies_collide(
        settings_read.site_base_url,
        django_settings.SESSION_COOKIE_NAME,
        settings_read.base_redirect_url,
    ):
        yield WarningMessage(
            f"Browsers send the LMS's session cookie to this application at {site.hostname} too, "
            f"and both name it {LMS_SESSION_COOKIE!r}: signing in to one signs out of the other.",
            hint="Set SESSION_COOKIE_NAME and CSRF_COOKIE_NAME, such as 'campus_session' and "
            "'campus_csrf', or use another host name for one of them.",
            id="usher.W003",
        )


def _is_allowed(host: str) -> bool:
    from django.http.request import validate_host

    allowed = list(django_settings.ALLOWED_HOSTS)
    # ``manage.py test`` creates the outbox, turns DEBUG off, and adds the host "testserver".
    is_test = hasattr(mail, "outbox") and allowed == ["testserver"]
    # The hosts that Django itself allows while DEBUG is on.
    if is_test or (django_settings.DEBUG and not allowed):
        allowed = [".localhost", "127.0.0.1", "[::1]"]
    return validate_host(host, allowed)


def _hashers() -> Iterator[CheckMessage]:
    hashers = django_settings.PASSWORD_HASHERS
    if KEYED_HASHER not in hashers:
        yield Error(
            "PASSWORD_HASHERS lacks the hasher for client secrets.",
            hint=f"{_CALL_APPLY} Or: PASSWORD_HASHERS = defaults.password_hashers()",
            id="usher.E002",
        )
    elif hashers[0] == KEYED_HASHER:
        yield Error(
            "PASSWORD_HASHERS begins with the hasher for client secrets, so passwords of users "
            "would be hashed with it.",
            hint="Put a password hasher first.",
            id="usher.E003",
        )


def _signing_key() -> Iterator[CheckMessage]:
    from oauth2_provider.utils import jwk_from_pem

    name = "OIDC_RSA_PRIVATE_KEY"
    hint = f"Set {name} in the environment or in .env, on one line:\n{_COMMAND_FOR_NEW_KEY}"
    pem = _oauth2_option(name)
    if not pem:
        yield WarningMessage(
            f"OAUTH2_PROVIDER[{name!r}] is not set: the LMS is not notified when a learner signs "
            "out here.",
            hint=hint,
            id="usher.W002",
        )
        return
    try:
        jwk_from_pem(pem)
    except ValueError:
        yield Error(
            f"OAUTH2_PROVIDER[{name!r}] is not a private key in PEM format, so ID tokens and "
            "sign-out messages can't be signed.",
            hint=hint,
            id="usher.E004",
        )


def _oauth2_option(name: str) -> Any:
    from oauth2_provider.settings import oauth2_settings

    return getattr(oauth2_settings, name)


def _provider() -> Iterator[CheckMessage]:
    yield from _provider_types()
    settings_read, _ = conf.read(django_settings)
    lms = urlsplit(settings_read.base_redirect_url)
    allowed = _oauth2_option("ALLOWED_REDIRECT_URI_SCHEMES")
    # Until an LMS is connected, its address is only a default.
    if lms.scheme not in allowed and not conf.missing():
        yield Error(
            f"The LMS is at {settings_read.base_redirect_url}, but OAUTH2_PROVIDER["
            f"'ALLOWED_REDIRECT_URI_SCHEMES'] is {allowed}: every sign-in would end in 400.",
            hint=f"Add {lms.scheme!r}, with https_only=False in defaults.apply() or in "
            "defaults.oauth2_provider(), or give the LMS an https address.",
            id="usher.E008",
        )
    from usher.application.provider.validator import UsherValidator

    if not issubclass(_oauth2_option("OAUTH2_VALIDATOR_CLASS"), UsherValidator):
        yield Error(
            "OAUTH2_PROVIDER['OAUTH2_VALIDATOR_CLASS'] is not Usher's: codes could be used twice, "
            "and PKCE would be required of an LMS that does not support it.",
            hint=f"{_CALL_APPLY} Your own validator must inherit from "
            "usher.application.provider.validator.UsherValidator.",
            id="usher.E009",
        )
    if absent := {"user:read", "openid"} - set(_oauth2_option("SCOPES")):
        yield Error(
            f"OAUTH2_PROVIDER['SCOPES'] lacks {', '.join(sorted(absent))}, which the LMS requests.",
            hint="Add them: OAUTH2_PROVIDER['SCOPES'] = defaults.SCOPES | {...}",
            id="usher.E010",
        )


def _provider_types() -> Iterator[CheckMessage]:
    """Options of the OAuth toolkit that have a wrong type. The toolkit checks no types: any text,
    even "no", would count as True."""
    from oauth2_provider.settings import DEFAULTS

    for name, value in getattr(django_settings, "OAUTH2_PROVIDER", {}).items():
        default = DEFAULTS.get(name)
        if name == "PKCE_REQUIRED" and callable(value):
            continue  # a function that decides for each client
        if isinstance(default, bool):
            expected = "True or False"
            is_valid = isinstance(value, bool)
        elif isinstance(default, int) or name == "REFRESH_TOKEN_EXPIRE_SECONDS":
            expected = "a whole number"
            is_valid = not isinstance(value, bool | str | float)
        elif isinstance(default, list):
            expected = "a list"
            is_valid = isinstance(value, list | tuple | set)
        elif isinstance(default, dict):
            expected = "a dictionary"
            is_valid = isinstance(value, dict)
        else:
            continue
        if not is_valid:
            yield Error(
                f"OAUTH2_PROVIDER[{name!r}] is {value!r}.",
                hint=f"Write {expected}.",
                id="usher.E018",
            )


def _email() -> Iterator[CheckMessage]:
    """The field with the e-mail address, which the LMS requires of each account."""
    with suppress(ImproperlyConfigured):  # reported by _adapter
        if adapter().overrides("email"):
            return
    model = get_user_model()
    if not hasattr(model, model.get_email_field_name()):
        yield Error(
            f"The user model {model._meta.label} has no field "
            f"{model.get_email_field_name()!r}, and the LMS refuses accounts without an e-mail "
            "address.",
            hint="Set EMAIL_FIELD of the user model to the name of its field, or override email() "
            "in the class that USHER_ADAPTER names.",
            id="usher.E017",
        )


def _adapter() -> Iterator[CheckMessage]:
    try:
        adapter_class = type(adapter())
    except ImproperlyConfigured as error:
        yield Error(
            str(error),
            hint="Name a class that inherits from usher.application.adapter.DefaultAdapter, such "
            "as shop.openedx.Adapter for class Adapter in shop/openedx.py.",
            id="usher.E011",
        )
        return
    for problem in problems_of_methods(adapter_class):
        yield Error(f"USHER_ADAPTER: {problem}", id="usher.E022")
    for name, correct_name in misspelt_methods(adapter_class):
        yield WarningMessage(
            f"USHER_ADAPTER: Usher does not call the method {name} of {adapter_class.__name__}.",
            hint=f"Did you mean {correct_name}? Otherwise give it another name.",
            id="usher.W029",
        )
