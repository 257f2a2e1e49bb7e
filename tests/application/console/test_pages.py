"""The console requires permissions, and opening a page changes nothing."""

from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from tests.application.console.conftest import ALL_PERMISSIONS, DEMO
from usher.application.accounts.services import ensure_account
from usher.application.audit.models import AuditEvent
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.metrics.models import MetricValue
from usher.application.models import LmsAccount
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run
from usher.console import access
from usher.console.models import Attempt, DoctorRun, Ignored, WorkDone, Worker
from usher.contract import metrics

pytestmark = pytest.mark.django_db
#: HTML, quotes and a template's expression: none of it may be interpreted.
EVIL = "<script>alert(1)</script>\"'&{{ 7|add:7 }}"


@pytest.fixture
def row() -> Enrollment:
    """A refused enrollment with hostile text in every value that people or the LMS can set."""
    user = get_user_model().objects.create_user("ada", "ada@learners.example", name=EVIL)
    enrollment = enroll(user, ensure_run(DEMO))
    enrollment.run.title = EVIL
    enrollment.run.save()
    Enrollment.objects.filter(pk=enrollment.pk).set_work(
        refused_at=timezone.now(),
        due_at=None,
        attempts=1,
        error_class="rejected",
        error_code="<b>&x=1",
        error_message=EVIL,
    )
    Attempt.objects.create(kind="enrollment", row_id=enrollment.pk, code="<b>", message=EVIL)
    Ignored.objects.create(kind="account", code="<i>", up_to=timezone.now(), note=EVIL)
    Worker.objects.create(
        name=EVIL,
        role=EVIL[:40],
        seen_at=timezone.now(),
        report={
            "lms": {"answered_at": 1.0, "failed_at": 2.0, "failure": EVIL},
            "circuits": {EVIL: 3.0},
            "gates": {"account": {"again_in": 9.0, "message": EVIL}},
        },
    )
    check = {"id": "NET-1", "title": EVIL, "status": "failed", "seen": EVIL, "fix": EVIL}
    DoctorRun.objects.create(report={"counts": {"failed": 1}, "checks": [check], "next": EVIL})
    return Enrollment.objects.get(pk=enrollment.pk)


def pages(row: Enrollment) -> list[str]:
    """The addresses of the console's pages, including those about this enrollment."""
    group = "/staff/refusals/group/?kind=enrollment&code=%3Cb%3E%26x%3D1"
    return [
        "/staff/",
        "/staff/refusals/",
        group,
        "/staff/learners/",
        "/staff/learners/?q=ad",
        "/staff/learners/?q=%3Cscript%3E",
        f"/staff/learners/{row.user_id}/",
        "/staff/runs/",
        f"/staff/runs/{row.run_id}/",
        "/staff/doctor/",
    ]


def actions(row: Enrollment) -> list[tuple[str, str, dict[str, Any]]]:
    """Address, required permission and form data of each action."""
    group = {"kind": "enrollment", "code": row.error_code, "row": [str(row.pk)], "note": "known"}
    learner, run = f"/staff/learners/{row.user_id}", f"/staff/runs/{row.run_id}"
    return [
        ("/staff/refusals/retry/", access.RETRY, group),
        ("/staff/refusals/ignore/", access.IGNORE, group),
        ("/staff/refusals/unignore/", access.IGNORE, {"ignored": str(Ignored.objects.get().pk)}),
        ("/staff/refusals/export/", access.EXPORT, group),
        (f"{learner}/compare/", access.COMPARE, {}),
        (f"{learner}/repair/", access.REPAIR, {}),
        (f"{learner}/link/", access.LINK, {"lms_username": "ada", "sure": "1"}),
        (f"{run}/compare/", access.COMPARE, {}),
        ("/staff/doctor/run/", access.DOCTOR, {}),
    ]


def all_rows() -> dict[str, list[Any]]:
    """All rows of Usher's tables."""
    app_labels = ("usher", "usher_engine", "usher_console", "usher_audit", "usher_provider")
    return {
        model.__name__: list(model._default_manager.order_by("pk").values())
        for label in app_labels
        for model in apps.get_app_config(label).get_models()
    }


def test_opening_pages_changes_no_row(staff: Client, row: Enrollment) -> None:
    rows = all_rows()
    for page in pages(row):
        # 302: a search with one match redirects to the learner's page.
        assert staff.get(page).status_code in (200, 302), page
    for address, _, data in actions(row):
        # A GET request never runs the action, but redirects to the page that has its button.
        answer = staff.get(address, data)
        assert (answer.status_code, answer["Location"]) == (302, "../"), address
        assert staff.put(address).status_code == 405, address
    assert all_rows() == rows


def test_text_of_learners_and_of_the_lms_is_escaped(staff: Client, row: Enrollment) -> None:
    for page in pages(row):
        text = staff.get(page, follow=True).content.decode()
        assert "<script>alert" not in text, page
        assert "<b>&x" not in text, page
        assert "<i>" not in text, page
    html = staff.get(f"/staff/learners/{row.user_id}/").content.decode()
    # Django and ``html`` may write the apostrophe differently.
    assert escape(EVIL, quote=True).replace("&#x27;", "&#39;") in html.replace("&#x27;", "&#39;")


def test_pages_are_only_for_staff_with_the_permission(staff_with: Any, row: Enrollment) -> None:
    # Somebody with all permissions who is not staff, and staff without permissions.
    learner = staff_with(*ALL_PERMISSIONS, username="learner", is_staff=False)
    colleague = staff_with(username="colleague")
    for page in pages(row):
        answer = Client().get(page)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/login/?next=/staff/")
        assert learner.get(page).status_code == 403
        assert colleague.get(page).status_code == 403


def test_each_action_requires_its_own_permission(staff_with: Any, row: Enrollment) -> None:
    clients_without = {
        missing: staff_with(*(set(ALL_PERMISSIONS) - {missing}), username=f"no{number}")
        for number, missing in enumerate(ALL_PERMISSIONS)
    }
    rows = all_rows()
    for address, permission, data in actions(row):
        assert Client().post(address, data).status_code == 302, address
        assert clients_without[permission].post(address, data).status_code == 403, address
        assert clients_without[access.VIEW].post(address, data).status_code == 403, address
    assert all_rows() == rows


def test_buttons_of_actions_are_hidden_without_their_permissions(
    staff_with: Any, row: Enrollment
) -> None:
    viewer = staff_with(access.VIEW)
    for page in pages(row):
        html = viewer.get(page, follow=True).content.decode()
        # Searching for learners needs no further permission.
        assert "<button" not in html.replace("<button>Find</button>", ""), page


def test_each_action_requires_the_csrf_token(staff: Client, row: Enrollment) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = staff.cookies
    rows = all_rows()
    for address, _, data in actions(row):
        assert strict.post(address, data).status_code == 403, address
    assert all_rows() == rows


def test_unknown_learners_runs_and_groups_give_404(staff: Client) -> None:
    for page in (
        "/staff/learners/999/",
        "/staff/learners/x'y/",
        f"/staff/learners/{10**30}/",
        "/staff/learners/1%00/",
        "/staff/runs/999/",
        "/staff/refusals/group/?kind=nothing&code=x",
        "/staff/refusals/group/?kind=account&code=%00",
        f"/staff/refusals/group/?kind=account&code={'x' * 99}",
    ):
        assert staff.get(page).status_code == 404, page
    # Unlike an address, any text is a valid search.
    for query in ("%00", "%ED%A0%80", "x" * 999, "'", "%25", "9" * 40):
        assert staff.get(f"/staff/learners/?q={query}").status_code == 200


# The overview


def test_the_overview_says_that_no_worker_has_run(staff: Client) -> None:
    assert "No worker has ever run." in staff.get("/staff/").content.decode()


def test_pages_say_to_start_the_worker_with_usher_dev_if_its_lms_is_used(
    staff: Client, settings: Any, tmp_path: Path
) -> None:
    settings.BASE_DIR, settings.OPENEDX_API_BASE_URL = tmp_path, "http://127.0.0.1:18000"
    (tmp_path / ".usher" / "dev").mkdir(parents=True)
    (tmp_path / ".usher" / "dev" / "env").write_text("OPENEDX_API_BASE_URL=http://127.0.0.1:18000")
    for page in ("/staff/", "/staff/runs/"):
        text = staff.get(page).content.decode()
        assert "Start <code>usher dev</code> again." in text, page
        assert "reconcile --watch" not in text, page


def test_every_page_says_once_that_no_worker_runs_and_how_to_start_a_worker(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usher.engine import heartbeat

    user = get_user_model().objects.create_user("ada", "ada@learners.example")
    ensure_account(user)
    pages = ["/staff/refusals/", f"/staff/learners/{user.pk}/", "/staff/runs/", "/staff/doctor/"]
    for page in ["/staff/", *pages]:
        text = staff.get(page).content.decode()
        assert text.count("No worker has ever run.") == 1, page
        assert "Start <code>manage.py reconcile --watch</code>." in text, page
    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)  # so that beat() writes at once
    heartbeat.beat()
    for page in pages:
        assert "No worker" not in staff.get(page).content.decode(), page


def test_the_overview_counts_records_by_state(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usher.engine import heartbeat

    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)  # so that beat() writes at once
    heartbeat.beat()
    LmsAccount.objects.all().delete()  # the account of the signed-in staff member
    now = timezone.now()
    # In sync, pending, retrying, and two that are refused.
    states: list[dict[str, Any]] = [
        {"observed_generation": 1, "due_at": None},
        {},
        {"attempts": 2, "error_code": "x"},
        {"refused_at": now, "due_at": None},
        {"refused_at": now, "due_at": None},
    ]
    for number, values in enumerate(states):
        user = get_user_model().objects.create_user(f"n{number}", f"n{number}@e.org")
        LmsAccount.objects.create(user=user, username=f"n{number}", reserved_at=now, **values)
    minute = now.replace(second=0, microsecond=0) - timedelta(minutes=5)
    WorkDone.objects.create(minute=minute, worker="a:1", changed=7, failed=2)
    WorkDone.objects.create(minute=minute, worker="a:2", unchanged=3, refused=1)

    overview = staff.get("/staff/").context["overview"]
    accounts = overview.kinds[0]  # the first kind is account
    counts = [accounts.in_sync, accounts.pending, accounts.retrying, accounts.refused]
    assert [str(count) for count in counts] == ["1", "1", "1", "2"]
    assert overview.verdict.text == "2 records are refused."
    busy_minutes = [(minute.done, minute.failed) for minute in overview.throughput if minute.done]
    # The sums of the two workers. Refused rows count as failed.
    assert busy_minutes == [(10, 3)]


def test_the_overview_shows_the_reports_of_recent_workers(staff: Client) -> None:
    now = timezone.now()
    report = {
        "lms": {
            "answered_at": now.timestamp() - 60,
            "failed_at": now.timestamp() - 3,
            "failure": "The LMS can't be reached.",
            "milliseconds": [10, 20, 900],
        },
        "circuits": {"host": 12.0},
        "throttled": {"courses": 30.0},
        "gates": {"enrollment": {"again_in": 20.0, "message": "token refused", "code": "x"}},
    }
    Worker.objects.create(name="a:1", role="Celery worker", seen_at=now, report=report)
    outdated = {"circuits": {"accounts": 5.0}, "gates": {"token": {}}, "lms": {}}
    for name, age in (
        ("a:2", timedelta(minutes=5)),
        ("a:3", timedelta(minutes=30)),
        ("a:4", timedelta(hours=3)),
    ):
        Worker.objects.create(name=name, role="Celery worker", seen_at=now - age, report=outdated)

    overview = staff.get("/staff/").context["overview"]
    # The last failure is later than the last answer.
    assert overview.lms.state == "failing"
    assert overview.lms.sentence.startswith("The LMS can't be reached.")
    # The rank of the 95th percentile is rounded down: of three durations, it is the second.
    assert (overview.lms.median, overview.lms.percentile_95) == (20, 20)
    # Only the report of the worker that is alive counts.
    assert [group for group, _ in overview.lms.circuits] == ["host"]
    assert [gate.kind for gate in overview.gates] == ["Enrollments"]
    states = [(worker.name, worker.state) for worker in overview.workers]
    # a:4 has been gone for more than an hour, so it is left out.
    assert states == [("a:1", "alive"), ("a:2", "late"), ("a:3", "gone")]
    # No sweep has run.
    assert overview.swept_at is None
    assert overview.messages.pulled_at is None


def test_the_overview_shows_the_last_sweep_and_messages(staff: Client) -> None:
    from usher.application.models import ReceivedEvent
    from usher.engine import heartbeat
    from usher.engine.models import Watermark

    heartbeat.record_sweep()
    three_minutes_ago = timezone.now() - timedelta(minutes=3)
    Watermark.objects.create(name="accounts", since="x", asked_at=three_minutes_ago)
    ReceivedEvent.objects.create(event_id="e", received_at=three_minutes_ago)
    # No sweep has measured how many messages wait in the LMS.
    assert "not known" in staff.get("/staff/").content.decode()
    cache.clear()  # the overview keeps its counts there for some seconds
    for metric, value in ((metrics.OUTBOX, 3), (metrics.OUTBOX_OLDEST, 300)):
        MetricValue.objects.create(name=metric.name, labels="[]", part="", value=value)
    page = staff.get("/staff/")
    assert "3 messages not delivered" in page.content.decode()
    overview = page.context["overview"]
    assert (overview.messages.outbox_count, overview.messages.outbox_oldest_age) == (3, "5 min")
    assert timezone.now() - overview.swept_at < timedelta(minutes=1)
    assert overview.messages.pulled_at == overview.messages.received_at == three_minutes_ago


def test_a_retry_is_in_the_audit_log_with_actor_and_records(staff: Client, row: Enrollment) -> None:
    data = {"kind": "enrollment", "code": row.error_code, "row": [str(row.pk)]}
    staff.post("/staff/refusals/retry/", data)
    event = AuditEvent.objects.get(name="console-retry")
    assert str(event.actor) == "support"
    assert event.detail["records"] == 1
    assert event.detail["chosen"] == str(row.pk)


def test_an_action_without_a_session_redirects_to_its_page_after_sign_in(row: Enrollment) -> None:
    """The sign-in page knows only the action's address. A GET request for that address redirects to
    the page that has the action's button."""
    page = f"/staff/learners/{row.user_id}/"
    answer = Client().post(f"{page}repair/")
    assert answer["Location"] == f"/accounts/login/?next={page}repair/"
    get_user_model().objects.create_superuser("boss", "boss@staff.example")
    browser = Client()
    browser.force_login(get_user_model().objects.get(username="boss"))
    assert browser.get(f"{page}repair/", follow=True).redirect_chain == [("../", 302)]
    assert browser.get(f"{page}repair/", follow=True).context["learner"].username == "ada"


def test_the_label_of_a_message_tells_whether_the_lms_or_usher_wrote_the_message(
    staff: Client, row: Enrollment
) -> None:
    """The LMS sends no message about a run that it does not have. Usher writes that message, so the
    label is ``Why``."""
    CourseRun.objects.filter(pk=row.run_id).set_work(
        refused_at=timezone.now(), error_code="not-found", error_message="It is not there."
    )
    groups = staff.get("/staff/refusals/").context["groups"]
    assert {group.kind: group.message_label for group in groups} == {
        "enrollment": "The LMS says",
        "run": "Why",
    }


def test_the_page_of_learners_links_to_refused_runs(staff: Client, row: Enrollment) -> None:
    CourseRun.objects.filter(pk=row.run_id).set_work(
        refused_at=timezone.now(), error_code="not-found", error_message="It is not there."
    )
    page = staff.get("/staff/learners/").content.decode()
    assert f'<a href="/staff/runs/{row.run_id}/">' in page


# Doctor


def test_the_doctor_page_shows_the_last_run_and_its_changes(staff: Client) -> None:
    def make_report(*statuses: str) -> dict[str, Any]:
        """Doctor's report, with one check for each of these statuses."""
        lines = [
            {"id": f"NET-{n}", "title": f"Title {n}", "status": status, "seen": "s", "fix": "run x"}
            for n, status in enumerate(statuses)
        ]
        return {"counts": {"failed": statuses.count("failed")}, "checks": lines, "next": "n"}

    assert "have not been run" in staff.get("/staff/doctor/").content.decode()
    DoctorRun.objects.create(report=make_report("ok", "ok", "failed"))
    report = make_report("failed", "ok", "ok")
    # The page's first line is made of these counts.
    report["counts"] = {"ok": 2, "warning": 0, "note": 1, "skipped": 3, "failed": 1}
    DoctorRun.objects.create(report=report)
    html = staff.get("/staff/doctor/").content.decode()
    assert "1 failed, 3 not checked, 1 note, 2 passed" in html
    area = staff.get("/staff/doctor/").context["findings"].areas[0]
    assert [(line.id, line.previous_status) for line in area.findings] == [("NET-0", "Passed")]
    assert [(line.id, line.previous_status) for line in area.other_lines] == [
        ("NET-1", ""),
        ("NET-2", "Failed"),
    ]


def test_the_heading_of_a_finding_names_the_problem(staff: Client) -> None:
    failed = {
        "id": "OPS-6",
        "title": "No record is refused",
        "headline": "the LMS refuses 2 enrollments",
        "status": "warning",
        "seen": "the LMS refuses 2 enrollments",
    }
    report = {"counts": {"warning": 1}, "checks": [failed], "next": "n"}
    DoctorRun.objects.create(report=report)
    html = staff.get("/staff/doctor/").content.decode()
    assert "<h3>the LMS refuses 2 enrollments</h3>" in html
    assert '<span class="state warning">Warning</span>' in html
    assert "<b>Check:</b> No record is refused" in html
    assert "<h3>No record is refused</h3>" not in html


def test_only_a_fix_that_is_a_command_is_shown_as_code(staff: Client) -> None:
    checks = [
        {"id": f"NET-{number}", "title": "t", "status": "failed", "seen": "s"} | fix
        for number, fix in enumerate(
            (
                {"fix": "tutor config save", "fix_is_command": True},
                {"fix": "publish it in Studio", "fix_is_command": False},
            )
        )
    ]
    DoctorRun.objects.create(report={"counts": {"failed": 2}, "checks": checks, "next": "n"})
    html = staff.get("/staff/doctor/").content.decode()
    assert '<code class="fix">tutor config save</code>' in html
    assert "<b>Fix:</b> publish it in Studio</p>" in html


def test_opening_the_doctor_page_runs_no_checks(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usher.console.doctor import services

    calls: list[Any] = []
    report = {"counts": {"failed": 0}, "checks": [], "next": ""}
    monkeypatch.setattr(services, "examine", lambda run_checks: calls.append(run_checks) or report)
    staff.get("/staff/doctor/")
    assert not calls
    staff.post("/staff/doctor/run/")
    assert len(calls) == 1
    assert DoctorRun.objects.get().report == report
    assert AuditEvent.objects.filter(name="console-doctor").exists()


def test_opening_a_learner_s_page_creates_no_account(staff: Client) -> None:
    user = get_user_model().objects.create_user("grace", "grace@learners.example")
    LmsAccount.objects.filter(user=user).delete()
    page = staff.get(f"/staff/learners/{user.pk}/").content.decode()
    assert "No LMS account was requested." in page
    assert not LmsAccount.objects.filter(user=user).exists()
    ensure_account(user)
    assert staff.get("/staff/learners/?q=GRACE@learners.example").status_code == 302


def test_links_to_the_admin_are_shown_only_with_permission_for_the_admin(
    row: Enrollment, staff_with: Any
) -> None:
    page = f"/staff/learners/{row.user_id}/"
    records = ("usher.view_enrollment", "usher.view_lmsaccount")
    html = staff_with(access.VIEW, *records).get(page).content.decode()
    assert f'href="/admin/usher/enrollment/{row.pk}/change/"' in html
    # The admin offers an account's actions on the list of accounts, not on the account's own page.
    actions = f"/admin/usher/lmsaccount/?id__exact={row.user.lms_account.pk}"
    assert f'href="{actions}"' in html
    without_permission = staff_with(access.VIEW, username="reader")
    assert "/admin/" not in without_permission.get(page).content.decode()
