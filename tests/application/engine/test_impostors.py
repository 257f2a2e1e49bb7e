"""An impostor, which is another server, answers at the LMS's address. No record is lost, marked as
missing, renamed, refused or created twice. When the LMS is back, all records get in sync by
themselves."""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from tests.application.conftest import forget_clients
from tests.support.faults import faulty_proxy
from tests.support.impostors import GROUPS, MIGRATIONS, SPOILED, TRANSFER, Impostor
from usher.application.accounts.models import LmsAccount, LmsProfile, Retirement
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll
from usher.application.lms.changes import pull_changes
from usher.application.lms.drift import drift
from usher.application.lms_client import client
from usher.application.records.models import Certificate, Grade
from usher.application.runs import sync
from usher.application.runs.models import CourseMode, CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.application.tokens.models import LmsToken
from usher.client.batch import capabilities
from usher.client.errors import LmsError
from usher.engine.models import Watermark
from usher.engine.registry import all_kinds
from usher.engine.services import open_gates, prepare_sweep, recheck, reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"
E2E = "course-v1:edX+E2E-101+course"
KINDS = tuple(all_kinds())
#: Seconds within which the LMS must answer, also on a busy machine.
TIMEOUT = 60
pytestmark = [pytest.mark.any_database, pytest.mark.slow]
#: Paths of the public API that the client uses even if the LMS has the batch API.
ALWAYS_PUBLIC = {"/courses/", "/course_modes/", "/certificates/"}
FAULTS_OF_COURSES = tuple(fault for fault in MIGRATIONS if set(fault.only) <= ALWAYS_PUBLIC)
FAULTS_OF_BATCH_API = tuple(fault for fault in MIGRATIONS if fault.only == ("/usher/",))
#: The batch API is tested with only one of the spoiled answers, because each takes long.
FAULTS_OF_BOTH_APIS = (
    SPOILED[0],
    *(fault for fault in MIGRATIONS if fault not in FAULTS_OF_COURSES + FAULTS_OF_BATCH_API),
)
FAULTS_BY_API = {
    "public": (*FAULTS_OF_BOTH_APIS, *SPOILED[1:]),
    "batch": (*FAULTS_OF_BOTH_APIS, *FAULTS_OF_BATCH_API),
}
#: Model → its fields that an impostor's answers must not change.
FIELDS_OF_RECORDS = {
    LmsAccount: ("username", "renamings", "lms_user_id", "created_in_lms_at", "observed_is_active"),
    CourseRun: ("course_key", "title", "missing_since", "digest"),
    CourseMode: ("slug", "currency", "min_price"),
    Enrollment: ("mode", "is_active", "observed_mode", "observed_is_active"),
    LmsProfile: ("observed_name", "observed_email"),
    Grade: ("percent", "passed"),
    Certificate: ("status",),
}


@dataclass
class Scenario:
    """Learners in all states, and the proxy, which leads to the LMS or to an impostor.

    prefix: of the learners' usernames. settled, changing: users whose records are in sync;
    ``change_the_application`` changes the second one's. leaver: username of the learner whom
    ``change_the_application`` deletes. new: the user whom it adds. has_batch: whether the LMS has
    the batch API.
    """

    system: Any
    proxy: Any
    prefix: str
    settled: Any
    changing: Any
    leaver: str
    has_batch: bool
    new: Any = None

    def stored_records(self) -> dict[str, list[tuple[Any, ...]]]:
        """The application's records of objects in the LMS: name of the model → rows."""
        return {
            model.__name__: list(model.objects.order_by("pk").values_list("pk", *fields))
            for model, fields in FIELDS_OF_RECORDS.items()
        }

    def count_accounts(self) -> int:
        """The number of LMS accounts of this scenario's learners."""
        rows = f"g().objects.filter(username__startswith={self.prefix!r})"
        script = f"from django.contrib.auth import get_user_model as g; print({rows}.count())"
        return int(self.system.lms.shell(script))


@pytest.fixture(params=["public", "batch"])
def scenario(request, transactional_db, settings, monkeypatch):
    """A ``Scenario`` whose three first learners have all their records in sync. The test runs once
    with the public API and once with the batch API."""
    system = request.getfixturevalue(
        "system" if request.param == "public" else "system_with_batch_api"
    )
    with faulty_proxy(system.lms.url) as proxy:
        settings.OPENEDX_API_BASE_URL = proxy.url
        settings.OPENEDX_BASE_REDIRECT_URL = system.lms.url
        settings.EDX_API_CLIENT_TIMEOUT = TIMEOUT
        settings.USHER_MISSING_COUNT = 0  # even a few objects must not count as missing
        monkeypatch.setattr(sync, "_MAX_TRIES", 1)  # no time for repeated requests
        forget_clients()
        prefix = f"im{secrets.token_hex(4)}"
        settled, changing, leaver = (system.learner(prefix) for _ in range(3))
        has_batch = request.param == "batch"
        scenario = Scenario(system, proxy, prefix, settled, changing, leaver.username, has_batch)
        for user in (settled, changing, leaver):
            ensure_account(user)
            enroll(user, ensure_run(DEMO))
        ensure_run(E2E)
        assert reconcile().failed == 0
        assert sync_runs().failures == []
        recheck(["grade", "certificate"])
        assert reconcile().failed == 0
        yield scenario


@contextmanager
def answered_by(scenario: Scenario, impostor: Impostor, settings: Any):
    """Within this context, the impostor answers all requests to the LMS."""
    forget_clients()
    capabilities(client())  # read before the impostor answers
    scenario.proxy.impostor = impostor
    # An answer that arrives drop by drop always times out, so the test shortens the wait.
    settings.EDX_API_CLIENT_TIMEOUT = 0.5 if impostor.drip else TIMEOUT
    yield
    scenario.proxy.impostor = None
    settings.EDX_API_CLIENT_TIMEOUT = TIMEOUT
    end_pauses()


def change_the_application(scenario: Scenario) -> None:
    """Changes in the application: one learner signs up, another changes name and mode, and a third
    is deleted. The tokens of two learners expire; only one of the tokens can be refreshed."""
    scenario.new = scenario.system.learner(scenario.prefix)
    ensure_account(scenario.new)
    enroll(scenario.new, ensure_run(DEMO))
    change_mode(scenario.changing, ensure_run(DEMO), "verified")
    scenario.changing.name = "J.R.R. Changed"
    scenario.changing.save()
    an_hour_ago = timezone.now() - timedelta(hours=1)
    LmsToken.objects.filter(user=scenario.settled).update(expires_at=an_hour_ago)
    LmsToken.objects.filter(user=scenario.changing).update(expires_at=an_hour_ago, refresh_token="")
    get_user_model().objects.get(username=scenario.leaver).delete()


def send_all_requests() -> None:
    """Does everything that sends requests to the LMS: a sweep, commands, an operator's actions.
    Tests call this twice, because the second pass uses what the first one stored."""
    end_pauses()
    recheck(KINDS)
    reconcile()
    sync_runs()
    Watermark.objects.update(asked_at=timezone.now() - timedelta(hours=1))
    pull_changes()
    with suppress(LmsError):
        list(drift())  # drift sends its requests while it is iterated


def end_pauses() -> None:
    """Acts as if time had passed: pauses end and retries become due. Refused rows stay refused."""
    forget_clients()
    open_gates(KINDS)
    for kind in all_kinds().values():
        rows = kind.model.objects.filter(work__due_at__isnull=False)
        rows.set_work(due_at=timezone.now())


def settle_all() -> None:
    """Reconciles until all records are settled or refused, six times at most."""
    for _ in range(6):
        end_pauses()
        prepare_sweep()
        reconcile()
        if not any(kind.model.objects.unsettled().exists() for kind in all_kinds().values()):
            return


def refused_rows() -> list[tuple[str, str, str]]:
    """Kind, error code and error message of each refused row."""
    return [
        (name, row.error_code, row.error_message)
        for name, kind in all_kinds().items()
        for row in kind.model.objects.refused()
    ]


@pytest.mark.parametrize("group", GROUPS)
def test_answers_of_an_impostor_change_no_record(scenario, group, settings):
    check_that_impostors_change_nothing(scenario, GROUPS[group], settings)


@pytest.mark.parametrize("scenario", ["public"], indirect=True)
def test_answers_that_never_end_change_no_record(scenario, settings):
    check_that_impostors_change_nothing(scenario, TRANSFER, settings)


def check_that_impostors_change_nothing(
    scenario: Scenario, impostors: tuple[Impostor, ...], settings: Any
) -> None:
    """Checks that the answers of these impostors change no record, and that the LMS gets the
    desired state when it answers again."""
    change_the_application(scenario)
    stored_records, number_of_accounts = scenario.stored_records(), scenario.count_accounts()
    tokens = set(LmsToken.objects.values_list("user_id", "refresh_token"))
    for impostor in impostors:
        with answered_by(scenario, impostor, settings):
            reconcile()  # with the capabilities that the client read from the LMS
            send_all_requests()
        assert scenario.stored_records() == stored_records, impostor.name
        assert set(LmsToken.objects.values_list("user_id", "refresh_token")) == tokens, impostor
        assert refused_rows() == [], impostor.name
        assert not Retirement.objects.filter(observed_generation__gt=0).exists(), impostor.name
    assert scenario.count_accounts() == number_of_accounts
    settle_all()
    check_desired_state(scenario)


@pytest.mark.parametrize(
    ("scenario", "impostor"),
    [
        pytest.param(api, impostor, id=f"{api}-{impostor.name}")
        for api, impostors in FAULTS_BY_API.items()
        for impostor in impostors
    ],
    indirect=["scenario"],
)
def test_no_record_is_lost_while_the_lms_carries_out_only_some_requests(
    scenario, impostor, settings
):
    """Some of the impostors carry out a request and lose the answer."""
    change_the_application(scenario)
    modes = scenario.stored_records()["CourseMode"]
    with answered_by(scenario, impostor, settings):
        reconcile()
        send_all_requests()
        send_all_requests()
    assert scenario.stored_records()["CourseMode"] == modes
    assert without_retirements_by_hand(refused_rows()) == []
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()
    settle_all()
    check_desired_state(scenario)


@pytest.mark.parametrize("scenario", ["public"], indirect=True)
def test_records_of_courses_are_kept_while_the_lms_s_answers_about_courses_are_wrong(
    scenario, settings
):
    change_the_application(scenario)
    modes = scenario.stored_records()["CourseMode"]
    for impostor in FAULTS_OF_COURSES:
        with answered_by(scenario, impostor, settings):
            reconcile()
            send_all_requests()
            send_all_requests()
        assert scenario.stored_records()["CourseMode"] == modes, impostor.name
        assert without_retirements_by_hand(refused_rows()) == [], impostor.name
        assert not CourseRun.objects.filter(missing_since__isnull=False).exists(), impostor.name
    settle_all()
    check_desired_state(scenario)


def test_another_open_edx_without_learners_changes_no_record(scenario, empty_lms, settings):
    """The other Open edX has the application's service worker and OAuth client, but no learners and
    no courses, as if the LMS used another database. The application creates no account in it."""
    change_the_application(scenario)
    stored_records = scenario.stored_records()
    tokens = set(LmsToken.objects.values_list("user_id", "refresh_token"))
    # With this value, the LMS's state replaces the state of a recorded enrollment.
    settings.USHER_ENROLLMENT_WINNER = "lms"
    count_accounts = (
        "from django.contrib.auth import get_user_model as g; print(g().objects.count())"
    )
    number_of_accounts = empty_lms.shell(count_accounts)
    forget_clients()
    capabilities(client())
    scenario.proxy.target = empty_lms.url
    reconcile()
    send_all_requests()
    send_all_requests()
    assert scenario.stored_records() == stored_records
    assert set(LmsToken.objects.values_list("user_id", "refresh_token")) == tokens
    assert refused_rows() == []
    assert empty_lms.shell(count_accounts) == number_of_accounts
    scenario.proxy.target = scenario.system.lms.url
    settings.USHER_ENROLLMENT_WINNER = "application"
    settle_all()
    check_desired_state(scenario)


def test_nobody_is_unenrolled_if_the_lms_lost_its_enrollments(system, settings):
    """Here the LMS's state takes precedence. A working LMS would still have records of ended
    enrollments, so an LMS without any record has lost them."""
    settings.USHER_ENROLLMENT_WINNER = "lms"
    users = [system.learner("kept") for _ in range(2)]
    for user in users:
        ensure_account(user)
        enroll(user, ensure_run(DEMO))
    assert reconcile(["account", "enrollment"]).failed == 0
    names = [user.lms_account.username for user in users]
    system.lms.shell(
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.filter(user__username__in={names!r}).delete()"
    )
    # The LMS has no enrollment any more.
    summary = reconcile(["enrollment"], made_due=recheck(["enrollment"]))
    assert {failure.code for failure in summary.failures} == {"too-many-missing"}
    assert Enrollment.objects.filter(is_active=True, observed_is_active=True).count() == 2
    # An operator confirms that the LMS's state is right.
    open_gates(["enrollment"])
    recheck(["enrollment"])
    reconcile(["enrollment"], accept_missing=True)
    assert Enrollment.objects.filter(is_active=False).count() == 2


def without_retirements_by_hand(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The rows except retirements. The public API cannot retire an account, so retirements are
    refused with a code that asks a person to do it."""
    return [(name, code, message) for name, code, message in rows if code != "retirement-by-hand"]


def check_desired_state(scenario: Scenario) -> None:
    """Checks that the LMS has the desired state of all learners after
    ``change_the_application``."""
    assert scenario.count_accounts() == 4  # the deleted learner's account is kept, too
    if scenario.has_batch:
        assert refused_rows() == []
        assert not scenario.system.account(scenario.leaver)["is_active"]
    else:
        assert [code for _, code, _ in refused_rows()] == ["retirement-by-hand"]
    users = {scenario.settled: "audit", scenario.changing: "verified", scenario.new: "audit"}
    for user, mode in users.items():
        account = LmsAccount.objects.get(user=user)
        assert (account.username, account.renamings) == (user.username, 0)
        lms_account = scenario.system.account(account.username)
        assert lms_account["id"] == account.lms_user_id or account.lms_user_id is None
        assert (lms_account["email"], lms_account["name"]) == (user.email, user.name)
        assert lms_account["is_active"]
        assert scenario.system.enrollments(account.username) == {DEMO: (mode, True)}
        row = Enrollment.objects.get(user=user)
        assert row.is_settled, row.error_message
        assert (row.observed_mode, row.observed_is_active) == (mode, True)
        assert LmsToken.objects.get(user=user).is_valid_for(60)
    assert set(CourseRun.objects.values_list("course_key", flat=True)) >= {DEMO, E2E}
    assert CourseMode.objects.filter(run__course_key=DEMO).exists()
