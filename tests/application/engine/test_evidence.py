"""Objects count as missing only if the real LMS says so, and never many objects in one pass."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tests.application.conftest import make_learner
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.lms.evidence import Evidence, MissingLimit, TooManyMissing
from usher.application.runs.models import CourseMode, CourseRun, RunModes
from usher.application.runs.services import ensure_run, sync_runs
from usher.client.payloads import ObservedMode
from usher.engine.services import open_gates, recheck, reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.mark.parametrize(
    ("missing", "asked", "total", "refused"),
    [
        (1, 50, 50, False),
        (50, 50, 20, False),  # the limit is 20 objects, and only 20 exist
        (50, 50, 21, True),
        (2, 50, 10_000, False),  # 4 %; the limit is 5 %
        (3, 50, 10_000, True),
        (0, 0, 0, False),
    ],
)
def test_a_share_and_a_number(missing: int, asked: int, total: int, refused: bool) -> None:
    limit = MissingLimit(share=0.05, count=20)
    expected = pytest.raises(TooManyMissing, match="--accept-missing") if refused else nullcontext()
    with expected:
        limit.check("account", missing=missing, sample_size=asked, total=total)


def test_the_sample_is_asked_for_once_a_pass() -> None:
    evidence, asked = Evidence(), []
    evidence.offer("account", lambda: (100, list(range(50))))

    def missing_of(items):
        asked.append(items)
        return len(items)

    for _ in range(3):
        with pytest.raises(TooManyMissing):
            evidence.require("account", missing_of)
    assert len(asked) == 1
    Evidence(accept_missing=True).require("account", missing_of)


@pytest.mark.each_database
def test_an_lms_that_lost_all_accounts_is_not_accepted(system) -> None:
    """An LMS that restores an old backup loses accounts. With ``--accept-missing``, the application
    creates these accounts again."""
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


def test_runs_that_vanish_together_are_not_accepted_as_missing(system) -> None:
    sync_runs()
    keys = [f"course-v1:Gone+{number}+Run" for number in range(25)]
    CourseRun.objects.bulk_create(CourseRun(course_key=key, digest="seen") for key in keys)

    summary = sync_runs()

    assert summary.failures[0].code == "too-many-missing"
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()
    sync_runs(accept_missing=True)
    assert CourseRun.objects.filter(missing_since__isnull=False).count() == 25


def test_a_run_that_was_on_no_page_is_asked_for_by_its_key(system, monkeypatch) -> None:
    """A run can be on no page if the list changes while the client reads the pages."""
    sync_runs()
    from usher.client.client import LmsClient

    real = LmsClient.runs_page

    def without_one(self, page, keys=()):
        found = real(self, page, keys)
        if not keys:
            found.results[:] = [raw for raw in found.results if raw["course_id"] != DEMO]
        return found

    monkeypatch.setattr(LmsClient, "runs_page", without_one)
    summary = sync_runs()

    assert summary.failed == 0
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()


@pytest.mark.each_database
def test_a_mode_in_two_currencies_is_kept_twice(system, monkeypatch) -> None:
    from usher.client.client import LmsClient

    run = ensure_run(DEMO)
    modes = [
        ObservedMode("verified", "Verified", 50, "usd", None),
        ObservedMode("verified", "Verified", 45, "eur", None),
        ObservedMode("audit", "Audit", 0, "usd", None),
    ]
    monkeypatch.setattr(LmsClient, "run_modes", lambda self, key: modes)

    for _ in range(2):
        summary = reconcile(["mode"], made_due=recheck(["mode"], related_to=run))
        assert summary.failed == 0
    found = CourseMode.objects.filter(run=run, slug="verified").values_list("currency", flat=True)
    assert sorted(found) == ["eur", "usd"]


@pytest.mark.each_database
def test_a_value_that_the_database_rejects_fails_only_its_row(system, monkeypatch) -> None:
    """The other rows of the pass succeed."""
    from usher.application.runs import kinds

    good, bad = ensure_run(DEMO), ensure_run("course-v1:edX+E2E-101+course")
    real = kinds._write_modes

    def broken(run, seen, have):
        if run.pk == bad.pk:
            raise ValueError("a mistake in bookkeeping")
        return real(run, seen, have)

    monkeypatch.setattr(kinds, "_write_modes", broken)
    summary = reconcile(["mode"], made_due=recheck(["mode"]))

    assert [(f.what, f.code) for f in summary.failures] == [(bad.course_key, "unwritable")]
    assert RunModes.objects.get(run=good).is_settled
    assert RunModes.objects.get(run=bad).refused_at
