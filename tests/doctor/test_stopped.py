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

from tests.doctor.small_server import Answer, serving
from usher.doctor import runner
from usher.doctor.check import SILENT_LMS, Finding, Status, failed, ok, warning
from usher.doctor.checks.net import ApplicationReachesLms
from usher.doctor.checks.ops import NoRecordIsRefused, SyncWorkerReportedRecently
from usher.doctor.context import Context, Places, look_at
from usher.doctor.facts import web
from usher.doctor.facts.web import NoAnswerError, Web
from usher.doctor.runner import Line


@pytest.fixture
def hung() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_only_the_first_request_waits_long_for_a_server_that_never_answers(
    hung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_TIMEOUT", httpx.Timeout(1.5))
    monkeypatch.setattr(web, "_TIMEOUT_OF_SILENT", httpx.Timeout(0.1))
    asked = Web(httpx.Client(timeout=1.5))
    started = time.monotonic()
    for path in ("/heartbeat", "/api/user/v1/me", "/a", "/b", "/c", "/d"):
        with pytest.raises(NoAnswerError, match=f"{path} does not answer: it took too long"):
            asked.get(hung + path)
    with pytest.raises(NoAnswerError, match="it took too long"):
        asked.follow(hung + "/e")
    assert 1.5 < time.monotonic() - started < 4
    with serving({"/": Answer(200)}) as other:
        assert asked.get(other + "/").status_code == 200
    asked.close()


def line(name: str, finding: Finding) -> Line:
    return Line(name, name, finding)


def test_right_settings_of_an_lms_that_does_not_answer_were_not_seen_to_work() -> None:
    down = failed("down", cause="c", fix="f", silent=SILENT_LMS)
    lines = {
        "NET-3": line("NET-3", down),
        "LMS-1": line("LMS-1", ok("on")),
        "LMS-2": line("LMS-2", warning("off", cause="c", fix="f")),
        "PRV-1": line("PRV-1", ok("there")),
        "APP-2": line("APP-2", ok("there")),
    }
    remaining = runner._skip_unseen(lines)
    statuses = {name: entry.finding.status for name, entry in remaining.items()}
    assert statuses == {
        "NET-3": Status.FAILED,
        "LMS-1": Status.SKIPPED,
        "LMS-2": Status.WARNING,
        "PRV-1": Status.SKIPPED,
        "APP-2": Status.OK,
    }
    assert remaining["LMS-1"].because == "NET-3"
    answers = lines | {"NET-3": line("NET-3", ok("it answers"))}
    assert runner._skip_unseen(answers) == answers


def reported(report: dict[str, Any], stopped: str = "") -> Any:
    return SimpleNamespace(application=SimpleNamespace(report=report), stopped=stopped)


def test_ops_5_a_worker_that_ended_on_request_is_not_late() -> None:
    engine = {"worker_seen_seconds": 5.0, "worker_late_seconds": 0}
    finding = SyncWorkerReportedRecently().probe(reported({"engine": engine}, "`usher dev` is out"))
    assert finding.status is Status.FAILED
    assert finding.seen == "the sync worker was stopped 5 seconds ago"
    assert finding.cause == "`usher dev` is out, so nothing reaches the LMS"
    engine["worker_late_seconds"] = 30
    assert SyncWorkerReportedRecently().probe(reported({"engine": engine})).status is Status.OK


def refused(kind: str, code: str, count: int) -> dict[str, Any]:
    error = {"error_class": "rejected", "error_code": code, "count": count, "refused": count}
    return {kind: {"errors": [error | {"message": "no", "sample": "x"}]}}


def test_ops_6_does_not_say_that_nothing_is_refused_if_other_checks_name_it() -> None:
    assert NoRecordIsRefused().probe(reported({"rows": {}})).status is Status.OK
    rows = refused("enrollment", "course-closed", 2) | refused("run", "not-found", 1)
    finding = NoRecordIsRefused().probe(reported({"rows": rows}))
    assert finding.status is Status.NOTE
    assert finding.seen == "the LMS refuses 2 enrollments, 1 course run"
    assert finding.cause == "the checks ENR and CRS name the reasons and what to do"
    rows |= refused("account", "protected-account", 3)
    finding = NoRecordIsRefused().probe(reported({"rows": rows}))
    assert (finding.status, finding.seen) == (Status.WARNING, "the LMS refuses 3 LMS accounts")


def test_usher_dev_that_is_stopped_is_the_cause(tmp_path: Path) -> None:
    home = tmp_path / ".usher" / "dev"
    home.mkdir(parents=True)
    env = home / "env"
    env.write_text("export OPENEDX_API_BASE_URL=http://127.0.0.1:1\n")
    (home / "prepared.json").write_text(json.dumps({"project": str(tmp_path)}))
    lock = home / "lock"
    lock.touch()
    places = Places("http://127.0.0.1:1", env_file=env, dev_home=home)

    def cause(context: Context) -> str:
        return ApplicationReachesLms().probe(context).cause

    with look_at(places) as context:
        assert cause(context) == "`usher dev` is stopped"
    with look_at(places) as context, lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cause(context).startswith("the LMS is down")
