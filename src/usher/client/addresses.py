"""Addresses of an LMS or an application, in one spelling.

``HTTPS://LMS.Example:443/`` and ``https://lms.example`` are the same address. Code that compares
addresses, or decides by the scheme whether certificates are checked, needs them in one spelling.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

import idna

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: DNS names have no underscores, but the names that Docker Compose gives to containers do.
_ASCII_HOST = re.compile(r"(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_MAX_HOST_LENGTH = 253
_MAX_LENGTH = 2000


class BadAddress(ValueError):
    """An address can't be used. The message says why, and does not show the address, which may
    contain a password."""


def normalise(address: str) -> str:
    """``address`` with its scheme and host in lower case, an internationalised host name in ASCII,
    without the scheme's default port and without slashes at its end.

    Raises BadAddress for schemes other than http and https, and for user names and passwords.

    >>> normalise("HTTPS://Bücher.Example:443/")
    'https://xn--bcher-kva.example'
    """
    if len(address) > _MAX_LENGTH:
        raise BadAddress(f"it is longer than {_MAX_LENGTH} characters")
    parts = _split(address)
    tail = f"{parts.path}?{parts.query}" if parts.query else parts.path.rstrip("/")
    return f"{parts.scheme}://{_netloc(parts)}{tail}"


def base(address: str) -> str:
    """As ``normalise``, for an address to which paths are added. Raises BadAddress for a query
    too."""
    if "?" in address:
        raise BadAddress("a query (?…) can't be part of a base address")
    return normalise(address)


def origin(address: str) -> tuple[str, str, int]:
    """(scheme, host, port) for comparison; the port is never left out. Raises BadAddress."""
    parts = _split(address)
    return parts.scheme, _host(parts), parts.port or _DEFAULT_PORTS[parts.scheme]


def _split(address: str) -> SplitResult:
    """The parts of an address. Raises BadAddress for one that must not be used."""
    # urlsplit removes line breaks and tabs silently, and browsers treat a backslash as a slash.
    unfit = any(char.isspace() or not char.isprintable() or char in '\\"<>`' for char in address)
    if unfit:
        raise BadAddress("it contains a space, a control character, a quote or a backslash")
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises when it is no number or too large
    except ValueError as error:
        raise BadAddress("its host or port can't be read") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise BadAddress("it doesn't begin with http:// or https://")
    if "@" in parts.netloc:
        raise BadAddress("it contains a user name or a password, which would reach logs and pages")
    if "#" in address:
        raise BadAddress("it has a fragment (#…)")
    if parts.port == 0:
        raise BadAddress("its port is 0")
    return parts


def _netloc(parts: SplitResult) -> str:
    """Host and port; without the port if it is the scheme's default."""
    host = _host(parts)
    url_host = f"[{host}]" if ":" in host else host
    is_default = parts.port in (None, _DEFAULT_PORTS[parts.scheme])
    return url_host if is_default else f"{url_host}:{parts.port}"


def _host(parts: SplitResult) -> str:
    """The host in lower case and ASCII. Raises BadAddress."""
    host = parts.hostname or ""
    if "[" in parts.netloc:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise BadAddress("its host is not an IPv6 address") from error
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except (idna.IDNAError, UnicodeError) as error:
            raise BadAddress("its host is not a valid internationalised domain name") from error
    if not _ASCII_HOST.fullmatch(host) or len(host) > _MAX_HOST_LENGTH:
        raise BadAddress("it has no host name, or one with characters that host names don't have")
    return host
