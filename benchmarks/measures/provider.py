"""The application as OAuth2 provider: code exchanges a second, and processor time of a sign-in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import psutil

from benchmarks import application
from benchmarks.load import Browser
from benchmarks.measuring import Figure
from benchmarks.processes import Process, free_port
from benchmarks.remote_module import RemoteModule
from benchmarks.setup import OUR_WSGI, REFERENCE_WSGI, Setup
from usher.contract.paths import ApplicationPath

#: Browsers that send requests at the same time.
_BROWSER_COUNT = 8


@dataclass
class MeasuredImplementation:
    """One implementation. functions: create its data. server: its web server, at ``port``. cookie:
    the name of its session cookie. count: learners in a round."""

    functions: RemoteModule
    port: int
    server: Process
    cookie: str
    count: int


def provider(setup: Setup, rounds: int, our_count: int, reference_count: int) -> list[Figure]:
    """Measures the token endpoint and the sign-in of the OAuth2 provider. our_count,
    reference_count: learners in a round of each implementation."""
    exchange = Figure(
        "token_exchange", "Token exchanges", "a second", target_ratio=45, more_is_better=True
    )
    cpu = Figure("sign_in_cpu", "Processor time of a sign-in", "ms", target_ratio=10)
    end = max(our_count, reference_count)
    for functions in (setup.ours, setup.reference):
        functions.call("create_learners", username_pattern="provider{}", first=0, end=end)
    ours, reference = _start_ours(setup, our_count), _start_reference(setup, reference_count)
    for _ in range(rounds):
        exchange.reference.append(_exchanges_a_second(setup, reference))
        cpu.reference.append(_cost_of_sign_in(setup, reference))
        exchange.ours.append(_exchanges_a_second(setup, ours))
        cpu.ours.append(_cost_of_sign_in(setup, ours))
    return [exchange, cpu]


def _start_ours(setup: Setup, count: int) -> MeasuredImplementation:
    return MeasuredImplementation(
        functions=setup.ours,
        port=setup.our_port,
        server=application.serve(
            setup.services, "provider-ours", OUR_WSGI, setup.our_port, setup.our_env
        ),
        cookie="mitxonline_session",
        count=count,
    )


def _start_reference(setup: Setup, count: int) -> MeasuredImplementation:
    """Starts a second web server of the serial implementation, of the same kind as Usher's."""
    port = free_port()
    return MeasuredImplementation(
        functions=setup.reference,
        port=port,
        server=application.serve(
            setup.services, "provider-theirs", REFERENCE_WSGI, port, setup.reference_env
        ),
        cookie="reference_session",
        count=count,
    )


def _exchanges_a_second(setup: Setup, implementation: MeasuredImplementation) -> float:
    """Token exchanges a second, with one code of each learner."""
    created = implementation.functions.call(
        "create_codes", count=implementation.count, redirect_uri=setup.redirect_uri
    )
    unused = list(created["answer"])
    count = len(unused)

    async def one_browser() -> None:
        async with Browser(implementation.port) as browser:
            while unused:
                await _exchange(browser, unused.pop(), setup.redirect_uri)

    return count / _measure_time(one_browser)


async def _exchange(browser: Browser, code: str, redirect_uri: str) -> str:
    """Exchanges a code and returns the access token. Raises RuntimeError if it is refused."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": application.CLIENT_ID,
        "client_secret": application.CLIENT_SECRET,
    }
    answer = await browser.post(ApplicationPath.TOKEN, form)
    if answer.status != 200:
        raise RuntimeError(f"a token exchange answered {answer.status}: {answer.body[:300]!r}")
    return str(json.loads(answer.body)["access_token"])


def _cost_of_sign_in(setup: Setup, implementation: MeasuredImplementation) -> float:
    """Milliseconds of the server's processor time for authorize, token and users/me of one
    learner."""
    unused = implementation.functions.call("create_sessions", count=implementation.count)["answer"]
    count = len(unused)

    async def one_browser() -> None:
        async with Browser(implementation.port) as browser:
            while unused:
                await _sign_in(setup, implementation, browser, unused.pop())

    before = _cpu(implementation.server.pid)
    _measure_time(one_browser)
    return (_cpu(implementation.server.pid) - before) / count * 1000


async def _sign_in(
    setup: Setup, implementation: MeasuredImplementation, browser: Browser, session: str
) -> None:
    """Sends the requests of one sign-in: authorize, token and users/me. session: the key of the
    learner's session. Raises RuntimeError if one is refused."""
    query = {
        "client_id": application.CLIENT_ID,
        "redirect_uri": f"{setup.redirect_uri}?redirect_state=abc",
        "state": "abc",
        "response_type": "code",
        "scope": "user:read",
    }
    path = f"{ApplicationPath.AUTHORIZE}?{urlencode(query)}"
    answer = await browser.get(path, Cookie=f"{implementation.cookie}={session}")
    if answer.status != 302:
        raise RuntimeError(f"authorize answered {answer.status}: {answer.body[:300]!r}")
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    token = await _exchange(browser, code, query["redirect_uri"])
    answer = await browser.get(ApplicationPath.USERS_ME, Authorization=f"Bearer {token}")
    if answer.status != 200 or b"username" not in answer.body:
        raise RuntimeError(f"users/me answered {answer.status}: {answer.body[:300]!r}")


def _measure_time(one_browser: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """The seconds until ``_BROWSER_COUNT`` concurrent calls of ``one_browser`` have ended."""

    async def all_browsers() -> None:
        await asyncio.gather(*(one_browser() for _ in range(_BROWSER_COUNT)))

    started = time.perf_counter()
    asyncio.run(all_browsers())
    return time.perf_counter() - started


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process and its children."""
    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(process.user + process.system for process in times)
