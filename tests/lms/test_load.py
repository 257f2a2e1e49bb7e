"""``benchmarks.lms_load``, which measures a real LMS under load, run on the embedded one."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.lms_load import ACCOUNTS, DEFAULT_PAGE, Load, accounts, main, measure

from tests.lms.conftest import Lms
from usher.client.pacing import FIRST_SIZE, Pacing


def load_options(*, accounts: int, enrollments: int) -> Namespace:
    """The command's options: these two, and the defaults of the others."""
    return Namespace(
        accounts=accounts,
        enrollments=enrollments,
        run=None,
        mode="",
        force=False,
        deadlocks="",
    )


def test_the_load_test_unenrolls_and_deactivates_its_learners(lms: Lms) -> None:
    """If no course run is given, the enrollments are spread over the LMS's runs."""
    options = load_options(accounts=6, enrollments=9)
    with lms.api() as client:
        report = measure(Load(client, batch=4, concurrency=2, page=DEFAULT_PAGE), options)

    kinds = ("accounts", "accounts_again", "enrollments", "enrollments_again")
    assert [report[kind]["items"] for kind in kinds] == [6, 6, 9, 9]
    assert [report[kind]["requests"] for kind in kinds] == [2, 2, 3, 3]
    assert all(report[kind]["a_second"] > 0 for kind in kinds)
    assert (report["failed_requests"], report["page_failed"]) == (0, 0)
    assert report["refused"] == 0, report["why"]
    created = (
        "from student_courseenrollment e join auth_user u on u.id = e.user_id "
        "where u.username like 'usher-load-%'"
    )
    assert lms.value(f"select count(*) {created}") == 9
    assert lms.value(f"select count(distinct course_id) {created}") == 2
    assert lms.value(f"select count(*) {created} and (e.is_active or u.is_active)") == 0


def test_without_options_the_load_test_sends_requests_as_the_application_does(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_of_probes: list[float] = []
    monkeypatch.setattr(Pacing, "claim_probe", lambda pace: True)
    monkeypatch.setattr(
        Pacing, "record_probe", lambda pace, seconds: seconds_of_probes.append(seconds)
    )
    with lms.api() as client:
        load = Load(client, DEFAULT_PAGE)
        items = accounts(FIRST_SIZE + 1, prefix="paced-")
        report = load.send_and_measure(ACCOUNTS, items)
    assert report["requests"] == 2  # the second one with the last item
    assert report["largest_request"] == FIRST_SIZE
    assert report["concurrency"] == 1
    assert len(seconds_of_probes) == 2  # one after each request


def test_a_stopped_load_test_deactivates_its_learners(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Load.send
    sent: list[list[dict[str, Any]]] = []

    def stop_at_the_third_request(load: Load, path: str, items: list[dict[str, Any]]) -> None:
        sent.append(items)
        if len(sent) == 3:
            raise KeyboardInterrupt
        send(load, path, items)

    monkeypatch.setattr(Load, "send", stop_at_the_third_request)
    options = load_options(accounts=40, enrollments=9)
    with lms.api() as client, pytest.raises(KeyboardInterrupt):
        measure(Load(client, batch=2, concurrency=1, page=DEFAULT_PAGE), options)

    first_username = sent[0][0]["username"]
    prefix = first_username.removesuffix("0")
    count_learners = "select count(*) from auth_user where username like ?"
    assert 0 < lms.value(count_learners, f"{prefix}%") < 40  # it stopped before the last ones
    assert lms.value(f"{count_learners} and is_active", f"{prefix}%") == 0


@pytest.mark.parametrize(
    ("token", "address", "message"),
    [
        ("not-a-token", None, "refuses the token"),
        ("not-a-token", "http://127.0.0.1:9", "can't be reached"),
        ("not-a-token", "localhost", "can't be reached"),
        (None, None, "token can't be read"),
    ],
)
def test_the_load_test_stops_if_the_lms_or_the_token_can_not_be_used(
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
