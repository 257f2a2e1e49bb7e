"""Opens an application and its LMS: starts the agent, makes the client, and checks that the LMS is
the right one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from usher.client.addresses import BadAddress
from usher.client.client import Credentials, LmsClient
from usher.client.errors import LmsError
from usher.client.http import Exchange, Http
from usher.client.shared import LocalState
from usher.connect.application.checkout import ApplicationOptions, Checkout, recognise
from usher.contract.environment import Env
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.adapters.known import adapter_of, check
from usher.sidecar.errors import NotAnswering, NotTrusted, SidecarError
from usher.sidecar.process import Agent

_SETTINGS = (
    Env.OPENEDX_API_BASE_URL,
    Env.OPENEDX_BASE_REDIRECT_URL,
    Env.OPENEDX_API_CLIENT_ID,
    Env.OPENEDX_API_CLIENT_SECRET,
    Env.OPENEDX_OAUTH_PROVIDER,
    Env.OPENEDX_SERVICE_WORKER_USERNAME,
    Env.OPENEDX_SERVICE_WORKER_API_TOKEN,
    Env.EDX_API_CLIENT_TIMEOUT,
)
#: Makes a context manager that is entered for each request to the LMS.
WrapRequest = Callable[[Exchange], AbstractContextManager[Any]]
#: The most usernames of recorded accounts that are looked up in the LMS. If the LMS knows none of
#: them, it is not the right LMS.
_SAMPLE_SIZE = 50
#: With fewer recorded accounts this check proves nothing: the LMS may have deleted all of them.
_MIN_SAMPLE_SIZE = 5
#: Seconds for one request, the default of both applications.
_DEFAULT_TIMEOUT = 60.0
#: The same as the default of ``USHER_CONCURRENCY``, the sync worker's setting.
CONCURRENCY = 32


@dataclass(frozen=True)
class Session:
    """An application and its LMS while they are open. concurrency: concurrent requests to the
    LMS's public APIs."""

    checkout: Checkout
    adapter: Adapter
    agent: Agent
    lms: LmsClient
    concurrency: int = CONCURRENCY


@contextmanager
def open_application(options: ApplicationOptions) -> Iterator[tuple[Checkout, Adapter, Agent]]:
    """Opens the application and checks its tables. Raises SidecarError, and ConnectError or
    EnvFileError if the application's files can't be read."""
    checkout = recognise(options)
    if checkout.edition is None:
        raise SidecarError(
            f"{options.target} is neither MITx Online nor MIT xPro; if it is one of them, name it "
            "with --edition"
        )
    adapter = adapter_of(checkout.edition.name)
    with Agent(checkout) as agent:
        check(agent, adapter)
        yield checkout, adapter, agent


def open_session(
    checkout: Checkout,
    adapter: Adapter,
    agent: Agent,
    lms_url: str = "",
    concurrency: int = CONCURRENCY,
    wrap_request: WrapRequest | None = None,
) -> Session:
    """Opens the application with its LMS, and checks that the LMS is the right one.

    lms_url: '' for the address in the application's settings. wrap_request: makes a context manager
    that is entered for each request to the LMS. Raises SidecarError.
    """
    names: list[str] = list(_SETTINGS)
    if adapter.registration_token_setting:
        names.append(adapter.registration_token_setting)
    settings = agent.ask("settings", names=names)
    registration_token = settings.get(adapter.registration_token_setting) or ""
    lms = _make_client(settings, lms_url, checkout, registration_token, wrap_request)
    try:
        _check_lms(lms, adapter, agent)
    except LmsError as error:
        raise NotAnswering(lms.http.base_url, error) from error
    return Session(checkout, adapter, agent, lms, concurrency)


def _make_client(
    settings: Mapping[str, Any],
    lms_url: str,
    checkout: Checkout,
    registration_token: str,
    wrap_request: WrapRequest | None,
) -> LmsClient:
    """Returns the client. Raises SidecarError without a token or a usable address."""
    token = settings[Env.OPENEDX_SERVICE_WORKER_API_TOKEN]
    base_url = lms_url or settings[Env.OPENEDX_API_BASE_URL]
    if not token or not base_url:
        missing = Env.OPENEDX_API_BASE_URL if token else Env.OPENEDX_SERVICE_WORKER_API_TOKEN
        application = shlex.quote(str(checkout.folder or checkout.url))
        raise SidecarError(
            f"{checkout.title} has no {missing}; connect it to the LMS first: "
            f"`usher connect --application {application}`"
        )
    try:
        http = Http(
            base_url,
            browser_url=settings[Env.OPENEDX_BASE_REDIRECT_URL] or base_url,
            timeout=_timeout(settings[Env.EDX_API_CLIENT_TIMEOUT]),
            state=LocalState(),
            wrap_request=wrap_request,
        )
    except BadAddress as error:
        # The address is not shown, because it may contain a password.
        if lms_url:
            source = "--lms-url"
        else:
            source = (
                f"{Env.OPENEDX_API_BASE_URL} or {Env.OPENEDX_BASE_REDIRECT_URL} of {checkout.title}"
            )
        raise SidecarError(f"The LMS's address in {source} can't be used: {error}") from error
    credentials = Credentials(
        service_worker=settings[Env.OPENEDX_SERVICE_WORKER_USERNAME] or "",
        service_token=token,
        client_id=settings[Env.OPENEDX_API_CLIENT_ID] or "",
        client_secret=settings[Env.OPENEDX_API_CLIENT_SECRET] or "",
        backend=settings[Env.OPENEDX_OAUTH_PROVIDER] or "",
        registration_token=registration_token,
    )
    return LmsClient(http, credentials)


def _timeout(value: Any) -> float:
    """Returns ``value`` as seconds; the applications' default if it is not a positive number."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return _DEFAULT_TIMEOUT
    return seconds if 0 < seconds < math.inf else _DEFAULT_TIMEOUT


def _check_lms(lms: LmsClient, adapter: Adapter, agent: Agent) -> None:
    """Checks that the LMS's answers can be trusted: that it shows its own service worker and
    learners of the application.

    Without this check, another server at the LMS's address, or an LMS with an empty database, would
    make all learners seem to be missing. Raises NotTrusted, LmsError.
    """
    service_worker = lms.me(lms.who.service_token)
    if service_worker not in lms.existing([service_worker]):
        raise NotTrusted(
            f"The account API of the LMS at {lms.http.base_url} does not find the service worker "
            f"{service_worker!r}, so the LMS's answers are not used. Make the service worker staff."
        )
    names = _some_usernames(adapter, agent)
    if len(names) >= _MIN_SAMPLE_SIZE and not lms.existing(names):
        raise NotTrusted(
            f"The LMS at {lms.http.base_url} knows none of {len(names)} learners whose accounts "
            f"{adapter.title} has recorded as created, such as {names[0]!r}. Is it the right LMS, "
            "with its data? Nothing was compared or changed."
        )


def _some_usernames(adapter: Adapter, agent: Agent) -> list[str]:
    """Returns usernames of some accounts that exist in the LMS, according to the application."""
    condition = {adapter.account.columns["has_account"]: True}
    if adapter.username_table == "account":
        path = adapter.account.columns["username"]
        condition[f"{path}__isnull"] = False
    else:
        path = "user__" + adapter.users.columns["username"]
    page = agent.ask(
        "page", model=adapter.account.model, fields=[path], filter=[condition], limit=_SAMPLE_SIZE
    )
    return [row[path] for row in page["rows"] if row[path]]
