"""NET and CLK: faults that need no LMS, only addresses."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from tests.doctor.small_server import Answer, serving
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath
from usher.doctor.check import Status
from usher.doctor.checks.clk import seconds_off
from usher.doctor.checks.net import LmsReachesApplication
from usher.doctor.context import Context, Places, look_at
from usher.doctor.facts import web
from usher.doctor.facts.commands import Command
from usher.doctor.facts.lms import Lms
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import SENT_AND_RECEIVED_AT
from usher.doctor.fixes import START
from usher.doctor.runner import run

LMS = {"/heartbeat": Answer(200, {"modulestore": {"status": True}})}
APPLICATION = {"/health/live": Answer(200, {"status": "ok"}), "/health/ready": Answer(200, {})}


def env_file(folder: Path, **values: str) -> Path:
    path = folder / ".env"
    values.setdefault("LOGOUT_REDIRECT_URL", "http://127.0.0.1/logout")
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    path.chmod(0o600)
    return path


def causes(places: Places, *only: str) -> list[str]:
    with look_at(places) as context:
        return [line.id for line in run(context, only).root_causes]


def test_net_1_a_name_that_nobody_knows(tmp_path: Path) -> None:
    places = Places(
        lms_url="http://lms.usher.invalid:8000",
        env_file=env_file(tmp_path, OPENEDX_API_BASE_URL="http://lms.usher.invalid:8000"),
    )
    with look_at(places) as context:
        report = run(context)
    assert [line.id for line in report.root_causes] == ["NET-1"]
    fix = report.root_causes[0].finding.fix
    assert "127.0.0.1 lms.usher.invalid" in fix
    assert "/etc/hosts" in fix


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_net_3_the_applications_address_of_the_lms_is_wrong(tmp_path: Path, wrong: str) -> None:
    with serving(LMS) as lms:
        address = wrong.format(port=lms.rsplit(":", 1)[1])
        places = Places(lms, env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=address))
        with look_at(places) as context:
            report = run(context)
    assert [line.id for line in report.root_causes] == ["NET-3"]
    assert f"OPENEDX_API_BASE_URL={lms}" in report.root_causes[0].finding.fix


def test_net_3_the_lms_is_down(tmp_path: Path) -> None:
    """The advice does not blame the address, which is correct."""
    places = Places(env_file=env_file(tmp_path, OPENEDX_API_BASE_URL="http://127.0.0.1:1"))
    with look_at(places) as context:
        (finding,) = [line.finding for line in run(context).root_causes]
    assert finding.seen.startswith("the LMS doesn't answer: ")
    assert "OPENEDX_API_BASE_URL=" not in finding.fix


def test_net_2_an_application_that_answers_500_is_named_with_its_error(tmp_path: Path) -> None:
    """An application answers 500 if, for example, its database is down."""
    (tmp_path / "manage.py").write_text("raise RuntimeError('no database')")
    manage = Command((sys.executable, "manage.py"), tmp_path)
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "status": 500}
    report = {"version": "1", "token_probes": [probe]}
    answers = LMS | {str(LmsPath.USHER_REPORT): Answer(200, report)}
    with (
        serving(answers) as lms,
        look_at(Places(lms, "http://127.0.0.1:1", manage=manage, token="t")) as context,
    ):
        finding = LmsReachesApplication().probe(context)
    assert finding.seen == "the application fails: http://app:8013/ answers the LMS with 500"
    assert "RuntimeError: no database" in finding.cause
    assert finding.fix.endswith("<manage migrate>")


@pytest.mark.parametrize("is_down", [True, False])
def test_net_2_does_not_blame_the_record_for_an_application_that_is_down(
    is_down: bool,
) -> None:
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "error": "ConnectError"}
    report = {"version": "1", "token_probes": [probe | {"status": None}]}
    answers = LMS | {str(LmsPath.USHER_REPORT): Answer(200, report)}
    with serving(answers) as lms, serving({"/": Answer(200, {})}) as other:
        places = Places(lms, "http://127.0.0.1:1" if is_down else other, token="t")
        with look_at(places) as context:
            finding = LmsReachesApplication().probe(context)
    if is_down:
        assert finding.seen.startswith("the application doesn't answer: http://127.0.0.1:1/")
        assert finding.fix == START
    else:
        assert "provider record" in finding.cause


@pytest.mark.parametrize("status", [200, 302, 401, 403, 405, 501])
def test_net_2_another_server_answers_in_the_applications_place(status: int) -> None:
    """The application itself would refuse the LMS's probe of the token endpoint with an OAuth
    error."""
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "status": status}
    with token_probe(probe) as context:
        finding = LmsReachesApplication().probe(context)
    assert f"answers {status} without an OAuth error" in finding.seen
    with token_probe(probe | {"oauth_error": "invalid_grant"}) as context:
        assert LmsReachesApplication().probe(context).status is Status.OK


def test_net_2_a_rate_limit_tells_nothing() -> None:
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "status": 429}
    with token_probe(probe) as context, pytest.raises(NotKnownError, match="limits the LMS's"):
        LmsReachesApplication().probe(context)


@contextmanager
def token_probe(probe: dict[str, object]) -> Iterator[Context]:
    """Doctor's context with an LMS whose report has this answer of the application's token
    endpoint."""
    report = {"version": "1", "token_probes": [probe]}
    answers = LMS | {str(LmsPath.USHER_REPORT): Answer(200, report)}
    with serving(answers) as lms, look_at(Places(lms, "http://127.0.0.1:1", token="t")) as context:
        yield context


NOT_FOUND = Answer(404, "404 page not found", {"Content-Type": "text/plain"})
PORTAL = Answer(200, "<h1>Sign in to this network</h1>", {"Content-Type": "text/html"})


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/heartbeat": NOT_FOUND, "/api/user/v1/me": NOT_FOUND},
        {"/heartbeat": PORTAL, "/api/user/v1/me": PORTAL},
        {"/heartbeat": Answer(302, None, {"Location": "http://elsewhere.example/"})},
    ],
)
def test_net_6_something_else_answers_there(tmp_path: Path, answers: dict[str, Answer]) -> None:
    with serving(answers) as other:
        places = Places(env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=other))
        assert causes(places) == ["NET-6"]
    with serving(LMS) as lms:  # the fix: the right address
        places = Places(env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=lms))
        assert causes(places) == []


@pytest.mark.parametrize("heartbeat", [Answer(404), Answer(500), Answer(503, "down")])
def test_net_3_an_lms_whose_heartbeat_fails_is_recognised(
    tmp_path: Path, heartbeat: Answer
) -> None:
    answers = {"/heartbeat": heartbeat, "/api/user/v1/me": Answer(401, {"detail": "no token"})}
    with serving(answers) as lms:
        path = env_file(tmp_path, OPENEDX_API_BASE_URL=lms)
        assert causes(Places(env_file=path), "NET-3", "NET-6") == []


@pytest.mark.parametrize(
    ("platform", "address", "expected"),
    [
        ("darwin", "172.22.0.1", ["NET-4"]),
        ("linux", "host.docker.internal", ["NET-4"]),
        ("linux", "172.22.0.1", []),
        ("darwin", "host.docker.internal", []),
    ],
)
def test_net_4_the_gateway_of_another_platform(
    tmp_path: Path, platform: str, address: str, expected: list[str]
) -> None:
    with serving(LMS) as lms:
        path = env_file(tmp_path, OPENEDX_API_BASE_URL=lms, OPENEDX_IP=address)
        assert causes(Places(lms, env_file=path, platform=platform)) == expected


@pytest.mark.parametrize("side", ["the LMS", "the application"])
def test_clk_1_a_clock_is_wrong(tmp_path: Path, side: str) -> None:
    date = {"Date": format_datetime(datetime.now(UTC) - timedelta(hours=2), usegmt=True)}
    lms = {"/heartbeat": Answer(200, {}, date if side == "the LMS" else {})}
    live = {"/health/live": Answer(200, {}, date if side == "the application" else {})}
    with serving(lms) as lms_url, serving({**APPLICATION, **live}) as url:
        path = env_file(tmp_path, OPENEDX_API_BASE_URL=lms_url)
        places = Places(lms_url, application_url=url, env_file=path)
        with look_at(places) as context:
            report = run(context)
    assert [line.id for line in report.root_causes] == ["CLK-1"]
    assert f"{side} is -720" in report.root_causes[0].finding.seen


def test_clk_1_a_slow_answer_is_not_evidence_of_a_wrong_clock() -> None:
    there = datetime.now(UTC)
    asked = there - timedelta(minutes=5)
    for date, off in ((there - timedelta(minutes=3), 0), (there - timedelta(minutes=9), -240)):
        headers = {"Date": format_datetime(date, usegmt=True)}
        answer = httpx.Response(
            200, headers=headers, extensions={SENT_AND_RECEIVED_AT: (asked, there)}
        )
        assert round(seconds_off(answer) or 0) == pytest.approx(off, abs=1)
    assert (
        seconds_off(httpx.Response(200, extensions={SENT_AND_RECEIVED_AT: (asked, there)})) is None
    )


def test_app_4_a_server_with_a_single_thread(tmp_path: Path) -> None:
    with serving(APPLICATION, threads=False) as url:
        assert causes(Places(application_url=url), "APP-4") == ["APP-4"]
    with serving(APPLICATION) as url:
        assert causes(Places(application_url=url), "APP-4") == []


def test_the_report_is_not_requested_from_an_lms_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the report were requested, doctor would wait for the LMS's answer, up to a minute."""
    monkeypatch.setattr(web, "_TIMEOUT", httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as hung:
        lms = Lms(web.Web(), f"http://127.0.0.1:{hung.getsockname()[1]}", token="t")
        with pytest.raises(NotKnownError):
            _ = lms.report
        hung.settimeout(0)
        requests = []
        with suppress(BlockingIOError):
            while True:
                requests.append(hung.accept()[0].recv(1000).split()[1].decode())
    assert requests == [LmsPath.ME]
