"""Addresses of an LMS or an application, in one spelling.

``HTTPS://LMS.Example:443/`` and ``https://lms.example`` are the same place. Code that compares
addresses, or decides by their scheme whether certificates are checked, needs one form of both.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

import idna

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Underscores are no part of a DNS name, but of the names that Docker Compose gives.
_ASCII_HOST = re.compile(r"(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_LONGEST_HOST = 253
_LONGEST = 2000


class BadAddress(ValueError):
    """Not an address that can be used. The message never shows the address: it may hold a
    password."""


def normalised(address: str) -> str:
    """``address`` with its scheme and host in lower case, an internationalised host in its ASCII
    form, without the scheme's own port and without slashes at its end.

    Raises BadAddress for everything but http and https, and for user names and passwords.

    >>> normalised("HTTPS://Bücher.Example:443/")
    'https://xn--bcher-kva.example'
    """
    if len(address) > _LONGEST:
        raise BadAddress(f"it is longer than {_LONGEST} characters")
    parts = _split(address)
    tail = f"{parts.path}?{parts.query}" if parts.query else parts.path.rstrip("/")
    return f"{parts.scheme}://{_netloc(parts)}{tail}"


def base(address: str) -> str:
    """As ``normalised``, for an address to which paths are added: it has no query either."""
    if "?" in address:
        raise BadAddress("a query (?…) can't be part of a base address")
    return normalised(address)


def origin(address: str) -> tuple[str, str, int]:
    """Scheme, host and port, for comparison. Raises BadAddress."""
    parts = _split(address)
    return parts.scheme, _host(parts), parts.port or _DEFAULT_PORTS[parts.scheme]


def _split(address: str) -> SplitResult:
    # urlsplit removes line breaks and tabs silently, and browsers take a backslash for a slash.
    unfit = any(char.isspace() or not char.isprintable() or char in '\\"<>`' for char in address)
    if unfit:
        raise BadAddress("it holds a space, a control character, a quote or a backslash")
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises when it is no number or too large
    except ValueError as error:
        raise BadAddress("its host or port can't be read") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadAddress("it doesn't begin with http:// or https://")
    if "@" in parts.netloc:
        raise BadAddress("it holds a user name or a password, which would reach logs and pages")
    if "#" in address:
        raise BadAddress("it has a fragment (#…)")
    if parts.port == 0:
        raise BadAddress("port 0 is no port")
    return parts


def _netloc(parts: SplitResult) -> str:
    host = _host(parts)
    shown = f"[{host}]" if ":" in host else host
    own = parts.port in (None, _DEFAULT_PORTS[parts.scheme])
    return shown if own else f"{shown}:{parts.port}"


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise BadAddress("its host is no IPv6 address") from error
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except (idna.IDNAError, UnicodeError) as error:
            raise BadAddress("its host is no internationalised domain name") from error
    if not _ASCII_HOST.fullmatch(host) or len(host) > _LONGEST_HOST:
        raise BadAddress("it has no host, or one that can't be a host's name")
    return host
