"""The application as OAuth2 provider: code exchanges in a second, and processor time of a
sign-in."""

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
from benchmarks.contender import Contender
from benchmarks.load import Browser
from benchmarks.measuring import Figure
from benchmarks.processes import Process, free_port
from benchmarks.stage import OUR_WSGI, REFERENCE_WSGI, Stage
from usher.contract.paths import ApplicationPath

_BROWSERS = 8


@dataclass
class Side:
    """One implementation. cookie: the name of its session cookie. count: learners in a round."""

    contender: Contender
    port: int
    server: Process
    cookie: str
    count: int


def provider(stage: Stage, rounds: int, ours: int, reference: int) -> list[Figure]:
    exchange = Figure("token_exchange", "Token exchanges", "a second", 45, more_is_better=True)
    cpu = Figure("sign_in_cpu", "Processor time of a sign-in", "ms", 10)
    for contender in (stage.ours, stage.reference):
        contender.call("learners", names="provider{}", first=0, end=max(ours, reference))
    own, theirs = _sides(stage, ours, reference)
    for _ in range(rounds):
        for side, measures, costs in (
            (theirs, exchange.reference, cpu.reference),
            (own, exchange.ours, cpu.ours),
        ):
            measures.append(_exchanges_a_second(stage, side))
            costs.append(_cost_of_sign_in(stage, side))
    return [exchange, cpu]


def _sides(stage: Stage, ours: int, reference: int) -> tuple[Side, Side]:
    """Starts the same kind of server for both implementations."""
    sides = []
    for name, contender, env, wsgi, port, cookie, count in (
        ("ours", stage.ours, stage.our_env, OUR_WSGI, stage.our_port, "mitxonline_session", ours),
        (
            "theirs",
            stage.reference,
            stage.reference_env,
            REFERENCE_WSGI,
            free_port(),
            "reference_session",
            reference,
        ),
    ):
        server = application.serve(stage.surroundings, f"provider-{name}", wsgi, port, env)
        sides.append(Side(contender, port, server, cookie, count))
    return sides[0], sides[1]


def _exchanges_a_second(stage: Stage, side: Side) -> float:
    codes = side.contender.call("codes", count=side.count, redirect_uri=stage.redirect_uri)
    left = list(codes["answer"])

    async def one_browser() -> None:
        async with Browser(side.port) as browser:
            while left:
                await _exchange(stage, browser, left.pop())

    count = len(left)
    return count / _timed(one_browser)


async def _exchange(stage: Stage, browser: Browser, code: str) -> str:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": stage.redirect_uri,
        "client_id": application.CLIENT_ID,
        "client_secret": application.CLIENT_SECRET,
    }
    answer = await browser.post(ApplicationPath.TOKEN, form)
    if answer.status != 200:
        raise RuntimeError(f"a token exchange answered {answer.status}: {answer.body[:300]!r}")
    return str(json.loads(answer.body)["access_token"])


def _cost_of_sign_in(stage: Stage, side: Side) -> float:
    """Milliseconds of the server's processor time for authorize, token and users/me of one
    learner."""
    left = side.contender.call("sessions", count=side.count)["answer"]
    count = len(left)

    async def one_browser() -> None:
        async with Browser(side.port) as browser:
            while left:
                await _sign_in(stage, side, browser, left.pop())

    before = _cpu(side.server.pid)
    _timed(one_browser)
    return (_cpu(side.server.pid) - before) / count * 1000


async def _sign_in(stage: Stage, side: Side, browser: Browser, session: str) -> None:
    asked = {
        "client_id": application.CLIENT_ID,
        "redirect_uri": f"{stage.redirect_uri}?redirect_state=abc",
        "state": "abc",
        "response_type": "code",
        "scope": "user:read",
    }
    path = f"{ApplicationPath.AUTHORIZE}?{urlencode(asked)}"
    answer = await browser.get(path, Cookie=f"{side.cookie}={session}")
    if answer.status != 302:
        raise RuntimeError(f"authorize answered {answer.status}: {answer.body[:300]!r}")
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": asked["redirect_uri"],
        "client_id": application.CLIENT_ID,
        "client_secret": application.CLIENT_SECRET,
    }
    answer = await browser.post(ApplicationPath.TOKEN, form)
    if answer.status != 200:
        raise RuntimeError(f"token answered {answer.status}: {answer.body[:300]!r}")
    token = json.loads(answer.body)["access_token"]
    answer = await browser.get(ApplicationPath.USERS_ME, Authorization=f"Bearer {token}")
    if answer.status != 200 or b"username" not in answer.body:
        raise RuntimeError(f"users/me answered {answer.status}: {answer.body[:300]!r}")


def _timed(one_browser: Callable[[], Coroutine[Any, Any, None]]) -> float:
    async def all_browsers() -> None:
        await asyncio.gather(*(one_browser() for _ in range(_BROWSERS)))

    started = time.perf_counter()
    asyncio.run(all_browsers())
    return time.perf_counter() - started


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process and its children."""
    server = psutil.Process(pid)
    times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
    return sum(each.user + each.system for each in times)
