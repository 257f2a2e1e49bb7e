"""Limits failed requests at the token endpoint, and failed messages of the LMS.

Only failures count. After too many wrong credentials from one address, for any client ids, requests
from that address are refused before their credentials are checked. A client that has succeeded from
that address before is exempt. Otherwise a stranger could lock the LMS out, since its client id is
in every sign-in URL.
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
#: The limit of failures of an address is this many times the limit of one client at that address.
ADDRESS_FACTOR = 2
#: Seconds for which a client is remembered to have succeeded from an address.
KNOWN_SECONDS = 30 * 86400  # 30 days
#: The length of the prefix that the IPv6 addresses of one machine share.
_IPV6_PREFIX_BITS = 64


def claimed_client_id(request: HttpRequest) -> str:
    """The client id in a request's body or HTTP Basic header; '' if there is none."""
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
    """scope: what is limited; each scope has its own counts. times: the limit, as a multiple of
    ``USHER_TOKEN_FAILURES_A_MINUTE``."""

    scope: str
    times: int = 1

    def refusal(self, request: HttpRequest, client_id: str = "") -> JsonResponse | None:
        """The answer to a request that must be refused before its credentials are checked; None to
        continue.

        client_id: the client id in the request; '' for none.
        """
        network = _network(request)
        if _count("wrong", self.scope, network) < ADDRESS_FACTOR * self._limit:
            return None
        is_known = bool(cache.get(_key("known", self.scope, client_id, network)))
        return None if is_known else _too_many_failures()

    def count_failure(
        self, request: HttpRequest, client_id: str = "", *, is_wrong: bool
    ) -> JsonResponse | None:
        """Counts one failure. Returns the answer to send if there were too many failures, else
        None.

        is_wrong: whether the credentials were wrong, which also counts against the address.
        """
        network = _network(request)
        if is_wrong:
            _increment("wrong", self.scope, network)
        failed = _increment("failed", self.scope, client_id, network)
        return _too_many_failures() if failed > self._limit else None

    def note_success(self, request: HttpRequest, client_id: str = "") -> None:
        """Call if the credentials were right: remembers that the client has succeeded from this
        address."""
        key = _key("known", self.scope, client_id, _network(request))
        cache.set(key, True, timeout=KNOWN_SECONDS)

    @property
    def _limit(self) -> int:
        setting = getattr(settings, "USHER_TOKEN_FAILURES_A_MINUTE", DEFAULT_FAILURES_A_WINDOW)
        return int(setting) * self.times


#: The token endpoint and revocation.
TOKENS = Limit("tokens")
#: Signed messages of the LMS. Many may come from one address.
WEBHOOKS, SIGN_OUTS = Limit("webhooks", times=4), Limit("sign-outs", times=4)


def _too_many_failures() -> JsonResponse:
    return JsonResponse(
        {"error": "temporarily_unavailable", "error_description": "Too many failed requests."},
        status=429,
        headers={"Retry-After": str(WINDOW_SECONDS), "Cache-Control": "no-store"},
    )


def _network(request: HttpRequest) -> str:
    """The IPv4 address or the IPv6 network, since one machine can use any number of IPv6
    addresses."""
    text = client_address(request)
    if text is None:
        return "unknown"
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, _IPV6_PREFIX_BITS), strict=False))
    return text


def _count(*parts: str) -> int:
    """The value of the counter with this key."""
    return int(cache.get(_key(*parts)) or 0)


def _increment(*parts: str) -> int:
    """Adds 1 to the counter with this key, and returns the new value."""
    key = _key(*parts)
    cache.add(key, 0, timeout=WINDOW_SECONDS)
    try:
        return int(cache.incr(key))
    except ValueError:  # expired between the two calls: a new window
        return 1


def _key(*parts: str) -> str:
    return "usher-limit-" + sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:40]
