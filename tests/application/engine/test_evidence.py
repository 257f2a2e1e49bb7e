"""Objects count as missing only if the real LMS says so, and never many objects in one pass."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from tests.application.conftest import forget_clients, make_learner
from tests.support.impostors import Impostor
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.lms.evidence import Evidence, MissingLimit, TooManyMissing
from usher.application.runs.models import CourseMode, CourseRun, RunModes
from usher.application.runs.services import ensure_run, sync_runs
from usher.client.payloads import ObservedMode
from usher.engine.services import open_gates, recheck, reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.mark.parametrize(
    ("missing", "sample_size", "total", "is_refused"),
    [
        (1, 50, 50, False),
        (50, 50, 20, False),  # the limit is 20 objects, and only 20 exist
        (50, 50, 21, True),
        (2, 50, 10_000, False),  # 4 %; the limit is 5 %
        (3, 50, 10_000, True),
        (0, 0, 0, False),
    ],
)
def test_the_limit_of_missing_objects_is_a_share_or_a_number(
    missing: int, sample_size: int, total: int, is_refused: bool
) -> None:
    limit = MissingLimit(share=0.05, count=20)
    refusal = pytest.raises(TooManyMissing, match="--accept-missing")
    with refusal if is_refused else nullcontext():
        limit.check("account", missing=missing, sample_size=sample_size, total=total)


def test_the_sample_is_read_only_once_in_a_pass() -> None:
    evidence, samples = Evidence(), []
    number_of_accounts, sample = 100, list(range(50))
    evidence.offer("account", lambda: (number_of_accounts, sample))

    def count_missing(items):
        """All objects of the sample are missing."""
        samples.append(items)
        return len(items)

    for _ in range(3):
        with pytest.raises(TooManyMissing):
            evidence.require("account", count_missing)
    assert len(samples) == 1
    Evidence(accept_missing=True).require("account", count_missing)  # raises nothing


@pytest.mark.each_database
def test_accounts_that_are_all_missing_are_not_created_again_without_accept_missing(system) -> None:
    """An LMS that restores an old backup loses accounts."""
    # More than the 20 objects that may be missing by default.
    learners = [make_learner(f"lost{number}") for number in range(22)]
    for learner in learners:
        ensure_account(learner)
    assert reconcile(["account"]).changed == 22
    names = list(LmsAccount.objects.values_list("username", flat=True))
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.filter(username__in={names!r}).delete()"
    )

    summary = reconcile(["account"], made_due=recheck(["account"]))

    assert {failure.code for failure in summary.failures} == {"too-many-missing"}
    assert not LmsAccount.objects.filter(created_in_lms_at=None).exists()
    assert not LmsAccount.objects.filter(work__refused_at__isnull=False).exists()

    open_gates(["account"])
    recheck(["account"])
    reconcile(["account"], accept_missing=True)
    assert system.account(names[0]) is not None
    assert sorted(LmsAccount.objects.values_list("username", flat=True)) == sorted(names)


def test_many_missing_runs_are_not_marked_as_missing_without_accept_missing(system) -> None:
    sync_runs()
    keys = [f"course-v1:Gone+{number}+Run" for number in range(25)]  # more than 20
    # A run with a digest was in the LMS before.
    CourseRun.objects.bulk_create(CourseRun(course_key=key, digest="seen") for key in keys)

    summary = sync_runs()

    assert summary.failures[0].code == "too-many-missing"
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()
    sync_runs(accept_missing=True)
    assert CourseRun.objects.filter(missing_since__isnull=False).count() == 25


def test_a_run_that_was_on_no_page_is_read_by_its_key(system, monkeypatch) -> None:
    """A run can be on no page if the list changes while the client reads the pages."""
    sync_runs()
    from usher.client.client import LmsClient

    read_page = LmsClient.runs_page

    def read_page_without_demo(self, number, keys=()):
        page = read_page(self, number, keys)
        if not keys:  # requests for certain keys are answered in full
            page.results[:] = [run for run in page.results if run["course_id"] != DEMO]
        return page

    monkeypatch.setattr(LmsClient, "runs_page", read_page_without_demo)
    summary = sync_runs()

    assert summary.failed == 0
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()


@pytest.mark.each_database
def test_a_mode_in_two_currencies_is_stored_once_for_each_currency(system, monkeypatch) -> None:
    from usher.client.client import LmsClient

    run = ensure_run(DEMO)
    modes = [
        ObservedMode("verified", "Verified", min_price=50, currency="usd", expires_at=None),
        ObservedMode("verified", "Verified", min_price=45, currency="eur", expires_at=None),
        ObservedMode("audit", "Audit", min_price=0, currency="usd", expires_at=None),
    ]
    monkeypatch.setattr(LmsClient, "run_modes", lambda self, key: modes)

    for _ in range(2):
        summary = reconcile(["mode"], made_due=recheck(["mode"], related_to=run))
        assert summary.failed == 0
    verified = CourseMode.objects.filter(run=run, slug="verified")
    assert sorted(verified.values_list("currency", flat=True)) == ["eur", "usd"]


@pytest.mark.each_database
def test_a_value_that_the_database_rejects_fails_only_its_row(system, monkeypatch) -> None:
    from usher.application.runs import kinds

    accepted_run, rejected_run = ensure_run(DEMO), ensure_run("course-v1:edX+E2E-101+course")
    write_modes = kinds._write_modes

    def fail_for_rejected_run(run, *modes):
        if run.pk == rejected_run.pk:
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return write_modes(run, *modes)

    monkeypatch.setattr(kinds, "_write_modes", fail_for_rejected_run)
    summary = reconcile(["mode"], made_due=recheck(["mode"]))

    failures = [(failure.what, failure.code) for failure in summary.failures]
    assert failures == [(rejected_run.course_key, "unwritable")]
    assert RunModes.objects.get(run=accepted_run).is_settled
    assert RunModes.objects.get(run=rejected_run).refused_at


@pytest.mark.any_database
def test_a_malformed_account_of_one_learner_does_not_stop_the_others(
    system_with_each_api, faulty_with_each_api
) -> None:
    """The malformed account is among the known accounts that the LMS must show."""
    learners = [make_learner("known") for _ in range(3)]
    for learner in learners:
        ensure_account(learner)
    assert reconcile(["account"]).failed == 0
    malformed = learners[0].lms_account

    def spoil(body: bytes) -> bytes:
        """Puts a value that can't be read into the full name of one account."""
        if not body.startswith(b"["):
            return body
        items = json.loads(body)
        for item in items:
            if item.get("username") == malformed.username:
                item["name"] = ["no text"]
        return json.dumps(items).encode()

    faulty_with_each_api.impostor = Impostor("malformed", spoil=spoil)
    forget_clients()
    made_due = recheck(["account"])
    summary = reconcile(["account"], made_due=made_due)

    rows = {account.username: account for account in LmsAccount.objects.all()}
    for learner in learners[1:]:
        account = rows[learner.lms_account.username]
        assert account.is_settled, account.error_message
        assert account.due_at is None
    assert summary.unchanged >= 2
