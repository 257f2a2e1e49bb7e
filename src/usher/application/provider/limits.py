"""Limits on what fails: at the token endpoint, and for messages of the LMS.

Only failures count. Who has succeeded from an address before is served from there whatever fails,
so that a stranger who knows the LMS's client id (it is in every sign-in address) can't lock the
LMS out. Anybody else is refused before credentials are looked at once too many were wrong. That
counts by address, whatever client ids are tried.
"""

from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote_plus

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, JsonResponse

from usher.application.audit.services import client_address

WINDOW_SECONDS = 60
DEFAULT_FAILURES_A_WINDOW = 30
#: An address may fail so many times as often as a single client there.
CLIENTS_OF_AN_ADDRESS = 2
#: Seconds for which an address is known to be a client's.
KNOWN_SECONDS = 30 * 86400


def claimed_client(request: HttpRequest) -> str:
    """The client id that a request presents, in its body or by HTTP Basic; '' without one."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return request.POST.get("client_id", "")
    try:
        text = b64decode(credentials).decode()
    except ValueError:
        return ""
    return unquote_plus(text.partition(":")[0])


@dataclass(frozen=True)
class Limit:
    """scope: what is limited, by itself; times: how often the setting's number of failures."""

    scope: str
    times: int = 1

    def refusal(self, request: HttpRequest, who: str = "") -> JsonResponse | None:
        """The answer to give without looking at credentials; None to go on.

        who: the client id in the request.
        """
        network = _network(request)
        if _count("wrong", self.scope, network) < CLIENTS_OF_AN_ADDRESS * self._most:
            return None
        return None if cache.get(_key("known", self.scope, who, network)) else _too_many()

    def count_failure(
        self, request: HttpRequest, who: str = "", *, is_wrong: bool
    ) -> JsonResponse | None:
        """Count one failure; the answer to give instead when there were too many.

        is_wrong: whether the credentials were, which counts against the address as well.
        """
        network = _network(request)
        if is_wrong:
            _add("wrong", self.scope, network)
        failed = _add("failed", self.scope, who, network)
        return _too_many() if failed > self._most else None

    def note_success(self, request: HttpRequest, who: str = "") -> None:
        """Call when the credentials were right: remembers the address as this client's."""
        cache.set(_key("known", self.scope, who, _network(request)), 1, KNOWN_SECONDS)

    @property
    def _most(self) -> int:
        setting = getattr(settings, "USHER_TOKEN_FAILURES_A_MINUTE", DEFAULT_FAILURES_A_WINDOW)
        return int(setting) * self.times


#: The token endpoint and revocation.
TOKENS = Limit("tokens")
#: Signed messages of the LMS, many of which may come from one address.
WEBHOOKS, SIGN_OUTS = Limit("webhooks", times=4), Limit("sign-outs", times=4)


def _too_many() -> JsonResponse:
    return JsonResponse(
        {"error": "temporarily_unavailable", "error_description": "Too many failed requests."},
        status=429,
        headers={"Retry-After": str(WINDOW_SECONDS), "Cache-Control": "no-store"},
    )


def _network(request: HttpRequest) -> str:
    """The address; of IPv6 the network, as a single machine has as many addresses as it likes."""
    text = client_address(request)
    if text is None:
        return "unknown"
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return text


def _count(*parts: str) -> int:
    return int(cache.get(_key(*parts)) or 0)


def _add(*parts: str) -> int:
    key = _key(*parts)
    cache.add(key, 0, WINDOW_SECONDS)
    try:
        return int(cache.incr(key))
    except ValueError:  # ended between the two calls: a new window
        return 1


def _key(*parts: str) -> str:
    return "usher-limit-" + sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:40]
