"""Doctor's findings if the LMS, a worker or ``usher dev`` is stopped, or never answers."""

import fcntl
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.doctor.small_server import NO_SERVER, Answer, serving
from usher.doctor import runner
from usher.doctor.check import SILENT_LMS, Finding, Status, failed, ok, warning
from usher.doctor.checks.net import ApplicationReachesLms
from usher.doctor.checks.ops import NoRecordIsRefused, SyncWorkerReportedRecently
from usher.doctor.context import Context, Places, create_context
from usher.doctor.facts import web
from usher.doctor.facts.web import NoAnswerError, Web
from usher.doctor.runner import Line


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_only_the_first_request_to_a_silent_server_waits_for_the_whole_timeout(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_timeout, short_timeout = 1.5, 0.1
    monkeypatch.setattr(web, "_TIMEOUT", httpx.Timeout(whole_timeout))
    monkeypatch.setattr(web, "_TIMEOUT_OF_SILENT", httpx.Timeout(short_timeout))
    requests = Web(httpx.Client(timeout=whole_timeout))
    started = time.monotonic()
    for path in ("/heartbeat", "/api/user/v1/me", "/a", "/b", "/c", "/d"):
        with pytest.raises(NoAnswerError, match=f"{path} does not answer: it took too long"):
            requests.get(silent_server + path)
    with pytest.raises(NoAnswerError, match="it took too long"):
        requests.follow(silent_server + "/e")
    # One whole timeout for seven requests; the rest is for a busy machine.
    assert whole_timeout < time.monotonic() - started < 3 * whole_timeout
    # A server that answers is not affected.
    with serving({"/": Answer(200)}) as other:
        assert requests.get(other + "/").status_code == 200
    requests.close()


def line(check_id: str, finding: Finding) -> Line:
    return Line(check_id, title=check_id, finding=finding)


def test_passed_checks_of_settings_are_skipped_if_the_lms_does_not_answer() -> None:
    no_answer = failed("down", cause="c", fix="f", silent_server=SILENT_LMS)
    lines = {
        "NET-3": line("NET-3", no_answer),
        "LMS-1": line("LMS-1", ok("on")),
        "LMS-2": line("LMS-2", warning("off", cause="c", fix="f")),
        "PRV-1": line("PRV-1", ok("there")),
        "APP-2": line("APP-2", ok("there")),
    }
    new_lines = runner._skip_unconfirmed(lines)
    statuses = {check_id: new_line.finding.status for check_id, new_line in new_lines.items()}
    # The LMS's settings and records are right, but can't be tried now. Warnings stay, and so do
    # checks of the application.
    assert statuses == {
        "NET-3": Status.FAILED,
        "LMS-1": Status.SKIPPED,
        "LMS-2": Status.WARNING,
        "PRV-1": Status.SKIPPED,
        "APP-2": Status.OK,
    }
    assert new_lines["LMS-1"].because == "NET-3"
    lines_with_an_answer = lines | {"NET-3": line("NET-3", ok("it answers"))}
    assert runner._skip_unconfirmed(lines_with_an_answer) == lines_with_an_answer


def context_with_report(report: dict[str, Any], stopped_notice: str = "") -> Any:
    """Doctor's context with this report of the application. stopped_notice: says that ``usher dev``
    or the demo is stopped."""
    return SimpleNamespace(
        application=SimpleNamespace(report=report), stopped_notice=stopped_notice
    )


def test_ops_5_names_a_worker_that_was_stopped() -> None:
    engine = {"worker_seen_seconds": 5.0, "worker_late_seconds": 0}  # 0: it was stopped
    finding = SyncWorkerReportedRecently().probe(
        context_with_report({"engine": engine}, stopped_notice="`usher dev` is stopped")
    )
    assert finding.status is Status.FAILED
    assert finding.seen == "the sync worker was stopped 5 seconds ago"
    assert finding.cause == "`usher dev` is stopped, so nothing reaches the LMS"
    # The same worker, running: its next report is due within 30 seconds.
    engine["worker_late_seconds"] = 30
    assert (
        SyncWorkerReportedRecently().probe(context_with_report({"engine": engine})).status
        is Status.OK
    )


def rows_with_refusals(kind: str, code: str, count: int) -> dict[str, Any]:
    """The application's report of ``count`` records of this kind that the LMS refuses."""
    error = {"error_class": "rejected", "error_code": code, "count": count, "refused": count}
    return {kind: {"errors": [error | {"message": "no", "sample": "x"}]}}


def test_ops_6_notes_refusals_that_other_checks_report() -> None:
    assert NoRecordIsRefused().probe(context_with_report({"rows": {}})).status is Status.OK
    rows = {
        **rows_with_refusals("enrollment", "course-closed", count=2),
        **rows_with_refusals("run", "not-found", count=1),
    }
    finding = NoRecordIsRefused().probe(context_with_report({"rows": rows}))
    assert finding.status is Status.NOTE
    assert finding.seen == "the LMS refuses 2 enrollments, 1 course run"
    assert finding.cause == "the checks ENR and CRS name the reasons and the fixes"
    # No other check reports this code.
    rows |= rows_with_refusals("account", "protected-account", count=3)
    finding = NoRecordIsRefused().probe(context_with_report({"rows": rows}))
    assert (finding.status, finding.seen) == (Status.WARNING, "the LMS refuses 3 LMS accounts")


def test_net_3_names_a_stopped_usher_dev_as_the_cause(tmp_path: Path) -> None:
    home = tmp_path / ".usher" / "dev"
    home.mkdir(parents=True)
    env = home / "env"
    env.write_text(f"export OPENEDX_API_BASE_URL={NO_SERVER}\n")
    (home / "prepared.json").write_text(json.dumps({"project": str(tmp_path)}))
    lock = home / "lock"
    lock.touch()
    places = Places(lms_url=NO_SERVER, env_file=env, dev_home=home)

    def cause(context: Context) -> str:
        return ApplicationReachesLms().probe(context).cause

    with create_context(places) as context:
        assert cause(context) == "`usher dev` is stopped"
    # `usher dev` is running: it holds the lock.
    with create_context(places) as context, lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cause(context).startswith("the LMS is down")
