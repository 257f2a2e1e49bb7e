"""``benchmarks.lms_load``, which measures a real LMS under load, run on the embedded one."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.lms_load import ACCOUNTS, PAGE, Load, accounts, main, measure

from tests.lms.conftest import Lms
from usher.client.pacing import FIRST_SIZE, Pacing


def test_the_load_test_removes_what_it_created(lms: Lms) -> None:
    """If no course run is given, the enrollments are spread over the LMS's runs."""
    asked = Namespace(accounts=6, enrollments=9, run=None, mode="", force=False, deadlocks="")
    with lms.api() as client:
        report = measure(Load(client, batch=4, concurrency=2, page=PAGE), asked)

    kinds = ("accounts", "accounts_again", "enrollments", "enrollments_again")
    assert [report[kind]["items"] for kind in kinds] == [6, 6, 9, 9]
    assert [report[kind]["requests"] for kind in kinds] == [2, 2, 3, 3]
    assert all(report[kind]["a_second"] > 0 for kind in kinds)
    assert (report["failed_requests"], report["page_failed"]) == (0, 0)
    assert report["refused"] == 0, report["why"]
    left = "from student_courseenrollment e join auth_user u on u.id = e.user_id"
    made = f"{left} where u.username like 'usher-load-%'"
    assert lms.value(f"select count(*) {made}") == 9
    assert lms.value(f"select count(distinct course_id) {made}") == 2
    assert lms.value(f"select count(*) {made} and (e.is_active or u.is_active)") == 0


def test_without_numbers_the_load_is_what_the_application_sends(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[float] = []
    monkeypatch.setattr(Pacing, "probe_is_due", lambda pace: True)
    monkeypatch.setattr(Pacing, "record_probe", lambda pace, seconds: probed.append(seconds))
    with lms.api() as client:
        load = Load(client, PAGE)
        report = load.send_and_measure(ACCOUNTS, accounts(FIRST_SIZE + 1, "paced-"))
    assert (report["requests"], report["largest_request"], report["concurrency"]) == (
        2,
        FIRST_SIZE,
        1,
    )
    assert len(probed) == 2


def test_a_stopped_load_test_removes_what_it_created(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Load.send
    sent: list[list[dict[str, Any]]] = []

    def stopped_at_the_third(load: Load, path: str, items: list[dict[str, Any]]) -> None:
        sent.append(items)
        if len(sent) == 3:
            raise KeyboardInterrupt
        send(load, path, items)

    monkeypatch.setattr(Load, "send", stopped_at_the_third)
    asked = Namespace(accounts=40, enrollments=9, run=None, mode="", force=False, deadlocks="")
    with lms.api() as client, pytest.raises(KeyboardInterrupt):
        measure(Load(client, batch=2, concurrency=1, page=PAGE), asked)

    prefix = sent[0][0]["username"].removesuffix("0")
    made = "from auth_user where username like ?"
    assert 0 < lms.value(f"select count(*) {made}", f"{prefix}%") < 40
    assert lms.value(f"select count(*) {made} and is_active", f"{prefix}%") == 0


@pytest.mark.parametrize(
    ("token", "address", "message"),
    [
        ("not-a-token", None, "refuses the token"),
        ("not-a-token", "http://127.0.0.1:9", "can't be reached"),
        ("not-a-token", "localhost", "can't be reached"),
        (None, None, "token can't be read"),
    ],
)
def test_the_load_test_checks_its_requirements_first(
    lms: Lms,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    token: str | None,
    address: str | None,
    message: str,
) -> None:
    file = tmp_path / "token"
    if token:
        file.write_text(token)
    arguments = ["lms_load", "--lms", address or lms.url, "--token-file", str(file)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match=message):
        main()
