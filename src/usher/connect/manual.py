"""The steps of the manual procedure: done by connect, unnecessary, or left to the operator."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from usher.connect.application.side import Addresses, Side
from usher.connect.checks import TIMEOUT, resolves
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.platform import Platform
from usher.contract.oauth import EDX_OAUTH_APP
from usher.contract.paths import ApplicationPath


@dataclass
class Manual:
    """Sentences for the operator, one a step.

    done: by connect, in this run or before; unnecessary: with the reason; left: to the operator.
    """

    done: list[str] = field(default_factory=list)
    unnecessary: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def of(
    lms: Platform | EmbeddedLms, sides: list[Side], addresses: Addresses, changed: list[str]
) -> Manual:
    """Returns what became of the manual steps. changed: ids of steps that changed something."""
    found = Manual(unnecessary=_unnecessary(lms))
    for side in sides:
        title = side.checkout.title
        found.done += [
            f"{title}: OAuth2 application {EDX_OAUTH_APP} with the LMS's redirect URI",
            f"{title}: its settings in {side.checkout.env_file or 'the file to hand over'}",
            f"LMS: provider record, OAuth client and service worker for {title}",
        ]
        found.left += _left(side, changed)
    found.done.append("LMS: settings for third-party sign-in, registration and sign-out")
    if isinstance(lms, Platform):
        found.done.append("LMS: sign-in backends in its image")
    hosts = dict.fromkeys(
        urlsplit(url).hostname or "" for url in (addresses.lms_url, *(side.url for side in sides))
    )
    found.left += [
        f"add to /etc/hosts: 127.0.0.1 {host} (the name does not resolve here)"
        for host in hosts
        if not resolves(host)
    ]
    return found


def _unnecessary(lms: Platform | EmbeddedLms) -> list[str]:
    found = [
        "copying ids and secrets between the admins: connect has set them in both",
        "signing in as the service worker to extend its token: connect has created the token",
        "looking up the address of docker's gateway: OPENEDX_IP is host-gateway",
    ]
    if isinstance(lms, Platform):
        found.append("lms/envs/private.py, and pip install in the container: a plugin does both")
    return found


def _left(side: Side, changed: list[str]) -> list[str]:
    checkout, found = side.checkout, []
    if f"env:{side.name}" in changed and not checkout.compose:
        found.append(f"restart {checkout.title}, so that it reads its .env again")
    if examples := side.examples:
        found.append(
            f"give {', '.join(examples)} in {checkout.env_file} values of your own; they have "
            "example values now"
        )
    return found + _sign_out(side)


def _sign_out(side: Side) -> list[str]:
    """Returns a warning if the application signs out by POST only.

    The LMS's sign-out page requests the application's sign-out with GET, in a frame.
    """
    if side.gateway_url:
        return []
    try:
        status = httpx.get(side.url + ApplicationPath.LOGOUT, timeout=TIMEOUT).status_code
    except httpx.HTTPError:
        return []
    if status != httpx.codes.METHOD_NOT_ALLOWED:
        return []
    return [
        f"tell your learners that signing out of the LMS leaves them signed in to "
        f"{side.checkout.title}: it signs out by POST only, with a CSRF token that neither the LMS "
        f"nor Usher can send. Signing out of {side.checkout.title} ends both sessions"
    ]
