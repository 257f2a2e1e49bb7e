"""Checks of the values that are written into Tutor's configuration.

Tutor renders each value of ``config.yml`` as a Jinja template without a sandbox, so a person who
chooses a value could run commands on the operator's machine. Rendered values are then written into
YAML, Python settings, a Dockerfile, compose files and scripts, and some values come from the
application's own answers. So each setting accepts only certain characters, with which a value can't
end a quotation, a line or a comment, or begin a template.

``usher connect`` checks values before it writes them, the Tutor plugin before it renders them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from usher.contract.provisioning import PURPOSES

PREFIX = "USHER_"
APPLICATIONS = "USHER_APPLICATIONS"


class NotAllowed(ValueError):
    """A value can't be used. The message names the setting and says what to write instead."""


def _matching(pattern: str, allowed: str) -> Callable[[Any, str], str]:
    """A check that accepts text which matches the whole pattern. allowed: what to write instead of
    other values, for the message."""
    compiled = re.compile(pattern)

    def check(value: Any, place: str) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise NotAllowed(f"{place} is {quoted(value)}: write {allowed}")
        return value

    return check


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST = rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*"
_PATH = re.compile(r"(?:/[A-Za-z0-9._~%+-]+)*")
_EMAIL = re.compile(rf"[A-Za-z0-9.!#%&'*+/=?^_~-]{{1,64}}@{_HOST}")

#: Patterns have no ``$`` at their end, which would accept a line break after the value; ``check``
#: uses ``fullmatch``.
name = _matching(r"[A-Za-z0-9_-]{1,50}", "letters, digits, - and _, at most 50")
backend = _matching(r"[A-Za-z0-9_-]{1,30}", "letters, digits, - and _, at most 30")
username = _matching(r"[A-Za-z0-9_.@+-]{1,150}", "letters, digits and _ . @ + -")
label = _matching(
    r"[\w .,()&+'-]{1,50}", "letters, digits, spaces and . , ( ) & + ' - _, at most 50"
)
secret = _matching(
    r"[A-Za-z0-9!#%&()*+,./:;<=>?@^_|~-]{1,255}",
    "letters, digits and marks without spaces, quotes and braces, at most 255",
)
host = _matching(_HOST, "a host name such as shop.example")
requirement = _matching(
    r"[A-Za-z0-9/.][A-Za-z0-9 ._\[\],<>=!~@:/+%#&?-]{0,254}",
    "a requirement of pip without quotes, such as openedx-usher==1.0",
)


def email(value: Any, place: str) -> str:
    """``value`` if it is an e-mail address, without a quoted local part. Raises NotAllowed."""
    if not isinstance(value, str) or not _EMAIL.fullmatch(value):
        raise NotAllowed(
            f"{place} is {quoted(value)}: write an e-mail address such as ada@example.org"
        )
    return value


def address(value: Any, place: str) -> str:
    """``value``, an http or https address without user, query and fragment, in one spelling: host
    in lower case and, if it is an international name, in ASCII; no slash at the end. Raises
    NotAllowed."""
    try:
        return _normalised_address(value)
    except (ValueError, UnicodeError):
        raise NotAllowed(
            f"{place} is {quoted(value)}: write an address such as http://example.org:8013"
        ) from None


def _normalised_address(value: Any) -> str:
    """As ``address``, but raises any ValueError or UnicodeError for a value that can't be used."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 500 or " " in value:
        raise ValueError(value)
    parts = urlsplit(value)
    hostname, port = parts.hostname or "", parts.port
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise ValueError(value)
    # Also an empty query or fragment, which urlsplit does not show.
    if "?" in value or "#" in value:
        raise ValueError(value)
    if ":" in hostname:  # an IPv6 address
        if not re.fullmatch(r"[0-9a-f:.]+", hostname):
            raise ValueError(value)
        hostname = f"[{hostname}]"
    else:
        if not hostname.isascii():
            hostname = hostname.encode("idna").decode()
        host(hostname, "the host name of an address")  # raises NotAllowed for a bad host name
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path):
        raise ValueError(value)
    # Built from the checked parts, because ``netloc`` might contain more than was checked.
    return f"{parts.scheme}://{hostname}{f':{port}' if port else ''}{path}"


def pattern(value: Any, place: str) -> str:
    """``value`` if it is a regular expression without template marks. Raises NotAllowed."""
    if not isinstance(value, str) or not _is_pattern(value):
        raise NotAllowed(
            f"{place} is {quoted(value)}: write a regular expression without {{{{, {{% and {{#"
        )
    return value


def _is_pattern(text: str) -> bool:
    if not text.isprintable() or _has_template_marks(text):
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _has_template_marks(text: str) -> bool:
    return any(mark in text for mark in ("{{", "{%", "{#", "}}", "%}", "#}"))


def flag(value: Any, place: str) -> bool:
    """``value`` if it is True or False. Raises NotAllowed."""
    if not isinstance(value, bool):
        raise NotAllowed(f"{place} is {quoted(value)}: write true or false")
    return value


def _list_of(check: Callable[[Any, str], Any], noun: str) -> Callable[[Any, str], Any]:
    """A check that accepts a list whose items pass ``check``. noun: the items, for the message."""

    def check_list(value: Any, place: str) -> Any:
        if not isinstance(value, list):
            raise NotAllowed(f"{place} is {quoted(value)}: write a list of {noun}")
        return [check(item, f"{place}[{index}]") for index, item in enumerate(value)]

    return check_list


def _or_empty(check: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A check that accepts '', and every value that ``check`` accepts."""
    return lambda value, place: value if value == "" else check(value, place)


def _purpose(value: Any, place: str) -> str:
    if value not in PURPOSES:
        raise NotAllowed(f"{place} is {quoted(value)}: write one of {', '.join(PURPOSES)}")
    return str(value)


#: Fields of an entry of USHER_APPLICATIONS.
FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "name": name,
    "root_url": _or_empty(address),
    "server_url": _or_empty(address),
    "gateway_url": _or_empty(address),
    "logout_url": _or_empty(address),
    "backend": backend,
    "backend_base": _or_empty(backend),
    "provider_name": label,
    "oauth_name": _or_empty(label),
    "redirect_uris": _list_of(address, "addresses"),
    "usher": flag,
    "on_host": lambda value, place: value if value is None else flag(value, place),
    "client_id": _or_empty(secret),
    "client_secret": _or_empty(secret),
    "oauth_client_id": _or_empty(secret),
    "oauth_client_secret": _or_empty(secret),
    "webhook_secret": _or_empty(secret),
    "service_worker_username": _or_empty(username),
    "service_worker_email": _or_empty(email),
    "service_worker_token": _or_empty(secret),
    "service_clients": _list_of(_purpose, "purposes"),
}


def entry(value: Any, place: str) -> dict[str, Any]:
    """One entry of USHER_APPLICATIONS with checked values; ``contract.applications`` explains the
    fields. Raises NotAllowed."""
    if not isinstance(value, Mapping):
        raise NotAllowed(f"{place} is not a mapping with a name")
    if unknown := sorted(set(map(str, value)) - set(FIELDS)):
        raise NotAllowed(
            f"{place} has an unknown field {quoted(unknown[0])}; known: {', '.join(FIELDS)}"
        )
    return {key: FIELDS[key](item, f"{place}.{key}") for key, item in value.items()}


#: Setting of the plugin → its check, which returns the value or raises NotAllowed.
SETTINGS: dict[str, Callable[[Any, str], Any]] = {
    APPLICATIONS: _list_of(entry, "applications"),
    "USHER_SECRET": secret,
    "USHER_SERVICE_WORKER_TOKEN": secret,
    "USHER_SIGN_IN": flag,
    "USHER_AUTHN_MICROFRONTEND": flag,
    "USHER_DEFAULT_APPLICATION": _or_empty(name),
    "USHER_REDIRECT_ANONYMOUS": flag,
    "USHER_DIRECT_REGISTRATION": flag,
    "USHER_ANONYMOUS_PATHS": _list_of(pattern, "regular expressions"),
    "USHER_SERVICE_WORKER_USERNAME": username,
    "USHER_SERVICE_WORKER_EMAIL": email,
    "USHER_SUPERUSER_USERNAME": _or_empty(username),
    "USHER_SUPERUSER_EMAIL": _or_empty(email),
    "USHER_SUPERUSER_APPLICATION": _or_empty(name),
    "USHER_HOST_ALIASES": _list_of(host, "host names"),
    "USHER_REQUIREMENT": _or_empty(requirement),
    "USHER_BACKEND_REQUIREMENTS": _list_of(requirement, "requirements"),
}


def check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plugin's settings with checked values, addresses in one spelling. None stands for a
    setting that is to be removed. Raises NotAllowed for a bad value and for an unknown setting."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key not in SETTINGS:
            raise NotAllowed(f"{quoted(key)} is not a setting of Usher")
        result[key] = None if value is None else SETTINGS[key](value, key)
    return result


def quoted(value: Any) -> str:
    """``value`` for a message: one line of printable ASCII of at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
