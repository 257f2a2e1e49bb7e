"""The steps of the manual procedure: done by connect, unnecessary, or left to the operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from usher.connect.application.target import Addresses, TargetApplication
from usher.connect.checks import TIMEOUT, resolves
from usher.connect.openedx.embedded import EmbeddedLms
from usher.connect.openedx.platform import Platform
from usher.contract import agents
from usher.contract.oauth import EDX_OAUTH_APP
from usher.contract.paths import ApplicationPath


@dataclass
class Manual:
    """Sentences for the operator, one for each step.

    done: by connect, now or before; unnecessary: with the reason; left: to the operator.
    """

    done: list[str] = field(default_factory=list)
    unnecessary: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def sort_steps(
    lms: Platform | EmbeddedLms,
    targets: list[TargetApplication],
    addresses: Addresses,
    changed_ids: list[str],
    started_commands: Mapping[str, str],
) -> Manual:
    """Returns the manual steps, sorted: done by connect, unnecessary, or left to the operator.

    changed_ids: ids of steps that changed something; started_commands: the commands of the
    development servers that ran for the checks, by the application's name.
    """
    steps = Manual(unnecessary=_unnecessary(lms, targets))
    for target in targets:
        title = target.checkout.title
        steps.done += [
            f"{title}: OAuth client {EDX_OAUTH_APP} with the LMS's redirect URI",
            f"{title}: its settings in {target.checkout.env_file or 'a file for its operator'}",
            f"LMS: provider record, OAuth client and service worker for {title}",
        ]
        steps.left += _left_to_operator(target, changed_ids, started_commands.get(target.name, ""))
    steps.done.append("LMS: settings for third-party sign-in, registration and sign-out")
    if isinstance(lms, Platform):
        steps.done.append("LMS: sign-in backends in its image")
    urls = [addresses.lms_url, *(target.url for target in targets)]
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)  # each host once
    steps.left += [
        f"add to /etc/hosts: 127.0.0.1 {host} (the name does not resolve here)"
        for host in hosts
        if not resolves(host)
    ]
    return steps


def _unnecessary(lms: Platform | EmbeddedLms, targets: Sequence[TargetApplication]) -> list[str]:
    """Returns sentences about manual steps that nobody needs to do, with the reason."""
    sentences = [
        "copying ids and secrets from one admin site to the other: connect has set them in both",
        "signing in as the service worker to extend its token: connect has created the token",
    ]
    if not all(target.checkout.runs_here for target in targets):
        sentences.append("looking up the address of docker's gateway: OPENEDX_IP is host-gateway")
    if isinstance(lms, Platform):
        sentences.append(
            "editing lms/envs/private.py, and pip install in the container: the Tutor plugin "
            "replaces both"
        )
    return sentences


def _left_to_operator(
    target: TargetApplication, changed_ids: list[str], started_command: str
) -> list[str]:
    """Returns sentences about what the operator must do for this application. started_command: the
    command of the development server that ran for the checks; '' if none ran."""
    checkout, sentences = target.checkout, []
    if started_command:
        sentences.append(
            f"start {checkout.title}, with the values of its .env as environment variables, as "
            f"connect did for the checks:\n$ {started_command}"
        )
    elif f"env:{target.name}" in changed_ids and not checkout.compose:
        sentences.append(f"restart {checkout.title}, so that it reads its .env again")
    if examples := target.keys_with_example_values:
        sentences.append(
            f"give {', '.join(examples)} in {checkout.env_file} values of your own; they have "
            "example values now"
        )
    return sentences + _sign_out_warnings(target)


def _sign_out_warnings(target: TargetApplication) -> list[str]:
    """Returns a warning if the application signs out by POST only.

    The LMS's sign-out page requests the application's sign-out with GET, in a frame.
    """
    if target.gateway_url:
        return []  # the LMS requests the gateway's sign-out, which accepts GET
    try:
        status = httpx.get(
            target.url + ApplicationPath.LOGOUT, headers=agents.CONNECT, timeout=TIMEOUT
        ).status_code
    except httpx.HTTPError:
        return []
    if status != httpx.codes.METHOD_NOT_ALLOWED:
        return []
    return [
        f"tell your learners that signing out of the LMS leaves them signed in to "
        f"{target.checkout.title}: it signs out by POST only, with a CSRF token that neither the "
        f"LMS nor Usher can send. Signing out of {target.checkout.title} ends both sessions"
    ]
