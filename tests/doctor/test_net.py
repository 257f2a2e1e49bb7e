"""NET and CLK: faults that need no LMS, only addresses."""

import gzip
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.doctor.small_server import NO_SERVER, Answer, serving
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath
from usher.doctor.check import Status
from usher.doctor.checks.clk import seconds_off
from usher.doctor.checks.net import LmsReachesApplication
from usher.doctor.context import Context, Places, create_context
from usher.doctor.facts import web
from usher.doctor.facts.commands import Command
from usher.doctor.facts.lms import Lms
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import SENT_AND_RECEIVED_AT, NoAnswerError
from usher.doctor.fixes import START
from usher.doctor.runner import run

#: The least by which doctor recognises an LMS, and an application that is running.
LMS_ANSWERS = {"/heartbeat": Answer(200, {"modulestore": {"status": True}})}
APPLICATION_ANSWERS = {
    "/health/live": Answer(200, {"status": "ok"}),
    "/health/ready": Answer(200, {}),
}


def env_file(folder: Path, **values: str) -> Path:
    """Writes a ``.env`` with these values, and with a correct ``LOGOUT_REDIRECT_URL`` if ``values``
    has none. Returns its path."""
    path = folder / ".env"
    values.setdefault("LOGOUT_REDIRECT_URL", "http://127.0.0.1/logout")
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    path.chmod(0o600)
    return path


def root_cause_ids(places: Places, *only: str) -> list[str]:
    with create_context(places) as context:
        return [line.id for line in run(context, only).root_causes]


def test_net_1_fails_for_a_host_name_that_does_not_resolve(tmp_path: Path) -> None:
    places = Places(
        lms_url="http://lms.usher.invalid:8000",
        env_file=env_file(tmp_path, OPENEDX_API_BASE_URL="http://lms.usher.invalid:8000"),
    )
    with create_context(places) as context:
        report = run(context)
    assert [line.id for line in report.root_causes] == ["NET-1"]
    fix = report.root_causes[0].finding.fix
    assert "127.0.0.1 lms.usher.invalid" in fix
    assert "/etc/hosts" in fix


@pytest.mark.parametrize("wrong_address", [NO_SERVER, "https://127.0.0.1:{port}"])
def test_net_3_names_the_right_address_if_the_applications_address_of_the_lms_is_wrong(
    tmp_path: Path, wrong_address: str
) -> None:
    with serving(LMS_ANSWERS) as lms:
        address = wrong_address.format(port=lms.rsplit(":", 1)[1])
        places = Places(lms_url=lms, env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=address))
        with create_context(places) as context:
            report = run(context)
    assert [line.id for line in report.root_causes] == ["NET-3"]
    assert f"OPENEDX_API_BASE_URL={lms}" in report.root_causes[0].finding.fix


def test_net_3_advises_to_start_an_lms_that_is_down(tmp_path: Path) -> None:
    """The fix does not change the address, which is correct."""
    places = Places(env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=NO_SERVER))
    with create_context(places) as context:
        (finding,) = [line.finding for line in run(context).root_causes]
    assert finding.seen.startswith("the LMS doesn't answer: ")
    assert "OPENEDX_API_BASE_URL=" not in finding.fix


def test_net_2_names_the_error_of_an_application_that_answers_500(tmp_path: Path) -> None:
    """This happens, for example, if the application's database is down."""
    (tmp_path / "manage.py").write_text("raise RuntimeError('no database')")
    manage = Command((sys.executable, "manage.py"), tmp_path)
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "status": 500}
    with lms_with_token_probe(probe, manage=manage) as context:
        finding = LmsReachesApplication().probe(context)
    assert finding.seen == "the application fails: http://app:8013/ answers the LMS with 500"
    assert "RuntimeError: no database" in finding.cause
    assert finding.fix.endswith("<manage migrate>")


@pytest.mark.parametrize("application_is_down", [True, False])
def test_net_2_names_the_provider_record_only_if_the_application_is_running(
    application_is_down: bool,
) -> None:
    probe = {
        "backend_name": DEFAULT_BACKEND,
        "url": "http://app:8013/",
        "error": "ConnectError",
        "status": None,
    }
    with serving({"/": Answer(200, {})}) as running_application:
        url = NO_SERVER if application_is_down else running_application
        with lms_with_token_probe(probe, application_url=url) as context:
            finding = LmsReachesApplication().probe(context)
    if application_is_down:
        assert finding.seen.startswith(f"the application doesn't answer: {NO_SERVER}/")
        assert finding.fix == START
    else:
        assert "provider record" in finding.cause


@pytest.mark.parametrize("status", [200, 302, 401, 403, 405, 501])
def test_net_2_fails_if_the_token_endpoint_answers_without_an_oauth_error(status: int) -> None:
    """The application itself would answer the LMS's probe with an OAuth error, so another server
    has answered."""
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "status": status}
    with lms_with_token_probe(probe) as context:
        finding = LmsReachesApplication().probe(context)
    assert f"answer {status} without an OAuth error" in finding.seen
    with lms_with_token_probe(probe | {"oauth_error": "invalid_grant"}) as context:
        assert LmsReachesApplication().probe(context).status is Status.OK


def test_net_2_is_unknown_if_the_token_endpoint_limits_the_lms() -> None:
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "status": 429}
    with (
        lms_with_token_probe(probe) as context,
        pytest.raises(NotKnownError, match="limits the LMS's"),
    ):
        LmsReachesApplication().probe(context)


@contextmanager
def lms_with_token_probe(
    probe: dict[str, object], application_url: str = NO_SERVER, manage: Command | None = None
) -> Iterator[Context]:
    """Doctor's context with an LMS whose report has this answer of the application's token
    endpoint. manage: the application's ``manage.py``."""
    report = {"version": "1", "token_probes": [probe]}
    answers = LMS_ANSWERS | {str(LmsPath.USHER_REPORT): Answer(200, report)}
    with (
        serving(answers) as lms,
        create_context(
            Places(lms_url=lms, application_url=application_url, manage=manage, token="t")
        ) as context,
    ):
        yield context


NOT_FOUND = Answer(404, "404 page not found", {"Content-Type": "text/plain"})
#: The page of a public network for people who have not signed in to it.
CAPTIVE_PORTAL = Answer(200, "<h1>Sign in to this network</h1>", {"Content-Type": "text/html"})


@pytest.mark.parametrize(
    "answers",
    [
        {},  # every path answers 404 with JSON
        {"/heartbeat": NOT_FOUND, "/api/user/v1/me": NOT_FOUND},
        {"/heartbeat": CAPTIVE_PORTAL, "/api/user/v1/me": CAPTIVE_PORTAL},
        {"/heartbeat": Answer(302, None, {"Location": "http://elsewhere.example/"})},
    ],
)
def test_net_6_fails_if_the_server_is_no_lms(tmp_path: Path, answers: dict[str, Answer]) -> None:
    with serving(answers) as other:
        places = Places(env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=other))
        assert root_cause_ids(places) == ["NET-6"]
    with serving(LMS_ANSWERS) as lms:
        places = Places(env_file=env_file(tmp_path, OPENEDX_API_BASE_URL=lms))
        assert root_cause_ids(places) == []


#: Answers with status 200 that are valid JSON, or claim to be JSON, and are not an LMS's.
ODD_ANSWERS = {
    "null": b"null",
    "list": b"[]",
    "text": b'"up"',
    "number": b"1e999",
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "huge number": b'{"version": ' + b"9" * 5000 + b"}",
    "latin-1": b'{"version": "\xfc"}',
    "half": b'{"version": ',
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_a_server_with_odd_json_is_no_lms_and_ends_no_check_with_an_exception(
    tmp_path: Path, name: str
) -> None:
    answer = Answer(200, ODD_ANSWERS[name])
    paths = (LmsPath.HEARTBEAT, LmsPath.ME, LmsPath.USHER_REPORT, LmsPath.ENROLLMENTS)
    with serving(dict.fromkeys(paths, answer)) as other:
        path = env_file(
            tmp_path, OPENEDX_API_BASE_URL=other, OPENEDX_SERVICE_WORKER_API_TOKEN="a-long-token"
        )
        with create_context(Places(env_file=path)) as context:
            report = run(context)
            with pytest.raises(NotKnownError):
                _ = context.lms.report
    assert [line.id for line in report.root_causes] == ["NET-6"]


def test_an_answer_that_is_too_large_or_too_slow_is_no_answer(monkeypatch: Any) -> None:
    body = gzip.compress(b" " * 20_000_000)
    compressed = Answer(200, body, {"Content-Encoding": "gzip"})
    with serving({"/large": compressed, "/slow": Answer(200, {})}) as server:
        with pytest.raises(NoAnswerError, match="more than"):
            web.Web().get(f"{server}/large")
        monkeypatch.setattr(web, "_MAX_SECONDS", -1.0)
        with pytest.raises(NoAnswerError, match="took too long"):
            web.Web().get(f"{server}/slow")


@pytest.mark.parametrize("heartbeat", [Answer(404), Answer(500), Answer(503, "down")])
def test_an_lms_whose_heartbeat_fails_is_recognised_by_its_api(
    tmp_path: Path, heartbeat: Answer
) -> None:
    answers = {"/heartbeat": heartbeat, "/api/user/v1/me": Answer(401, {"detail": "no token"})}
    with serving(answers) as lms:
        path = env_file(tmp_path, OPENEDX_API_BASE_URL=lms)
        assert root_cause_ids(Places(env_file=path), "NET-3", "NET-6") == []


@pytest.mark.parametrize(
    ("platform", "address", "expected_ids"),
    [
        ("darwin", "172.22.0.1", ["NET-4"]),
        ("linux", "host.docker.internal", ["NET-4"]),
        ("linux", "172.22.0.1", []),
        ("darwin", "host.docker.internal", []),
    ],
)
def test_net_4_fails_for_the_gateway_address_of_another_operating_system(
    tmp_path: Path, platform: str, address: str, expected_ids: list[str]
) -> None:
    with serving(LMS_ANSWERS) as lms:
        path = env_file(tmp_path, OPENEDX_API_BASE_URL=lms, OPENEDX_IP=address)
        places = Places(lms_url=lms, env_file=path, platform=platform)
        assert root_cause_ids(places) == expected_ids


@pytest.mark.parametrize("server_with_wrong_clock", ["the LMS", "the application"])
def test_clk_1_names_the_server_whose_clock_is_wrong(
    tmp_path: Path, server_with_wrong_clock: str
) -> None:
    date = {"Date": format_datetime(datetime.now(UTC) - timedelta(hours=2), usegmt=True)}
    lms_headers = date if server_with_wrong_clock == "the LMS" else {}
    lms = {"/heartbeat": Answer(200, {"sql": {"status": True}}, lms_headers)}
    live = {
        "/health/live": Answer(
            200, {}, date if server_with_wrong_clock == "the application" else {}
        )
    }
    with serving(lms) as lms_url, serving({**APPLICATION_ANSWERS, **live}) as url:
        path = env_file(tmp_path, OPENEDX_API_BASE_URL=lms_url)
        places = Places(lms_url=lms_url, application_url=url, env_file=path)
        with create_context(places) as context:
            report = run(context)
    assert [line.id for line in report.root_causes] == ["CLK-1"]
    # Two hours are 7,200 seconds; the answer may take some more.
    assert f"{server_with_wrong_clock} is -720" in report.root_causes[0].finding.seen


def test_clk_1_counts_a_date_between_request_and_answer_as_right() -> None:
    received_at = datetime.now(UTC)
    sent_at = received_at - timedelta(minutes=5)
    for date, expected_offset in (
        (received_at - timedelta(minutes=3), 0),
        (received_at - timedelta(minutes=9), -240),  # four minutes before the request
    ):
        headers = {"Date": format_datetime(date, usegmt=True)}
        answer = httpx.Response(
            200, headers=headers, extensions={SENT_AND_RECEIVED_AT: (sent_at, received_at)}
        )
        assert round(seconds_off(answer) or 0) == pytest.approx(expected_offset, abs=1)
    # Without a Date header.
    assert (
        seconds_off(httpx.Response(200, extensions={SENT_AND_RECEIVED_AT: (sent_at, received_at)}))
        is None
    )


def test_app_4_fails_for_a_server_with_a_single_thread(tmp_path: Path) -> None:
    with serving(APPLICATION_ANSWERS, threads=False) as url:
        assert root_cause_ids(Places(application_url=url), "APP-4") == ["APP-4"]
    with serving(APPLICATION_ANSWERS) as url:
        assert root_cause_ids(Places(application_url=url), "APP-4") == []


def test_the_report_is_not_requested_from_an_lms_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the report were requested, doctor would wait for the LMS's answer, up to a minute."""
    monkeypatch.setattr(web, "_TIMEOUT", httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        lms = Lms(web.Web(), f"http://127.0.0.1:{silent_server.getsockname()[1]}", token="t")
        with pytest.raises(NotKnownError):
            _ = lms.report
        silent_server.settimeout(0)
        requests = []
        with suppress(BlockingIOError):
            while True:
                requests.append(silent_server.accept()[0].recv(1000).split()[1].decode())
    assert requests == [LmsPath.ME]


def test_net_6_fails_if_no_lms_answers_and_the_application_is_not_known() -> None:
    assert root_cause_ids(Places(lms_url=NO_SERVER), "NET-6") == ["NET-6"]
