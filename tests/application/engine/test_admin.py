"""The admin lists every record with its state, and can retry each record."""

from operator import itemgetter

import pytest
from django.contrib.admin import site
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from usher.application import models
from usher.application.accounts.services import ensure_account
from usher.application.adapter import DefaultAdapter
from usher.application.enrollments.services import enroll
from usher.application.runs.services import ensure_run
from usher.application.states import State
from usher.engine.services import reconcile

MODELS_IN_ADMIN = [model for model in site._registry if model._meta.app_label == "usher"]
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def staff(client, transactional_db):
    """The browser of a superuser."""
    boss = get_user_model().objects.create_superuser("boss", "boss@example.org", "x")
    client.force_login(boss)
    return client


def run_action(staff, model, action, *rows):
    """Runs the action of the model's admin on these rows. Returns the page after it."""
    url = reverse(f"admin:usher_{model._meta.model_name}_changelist")
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return staff.post(url, data, follow=True).content.decode()


@pytest.mark.parametrize("model", MODELS_IN_ADMIN, ids=lambda model: model._meta.model_name)
def test_the_list_and_the_page_of_each_model_open(staff, model):
    from tests.application.conftest import make_learner

    user, run = make_learner(), ensure_run(DEMO)
    ensure_account(user)
    enroll(user, run)
    models.Grade.objects.create(user=user, run=run)
    models.Certificate.objects.create(user=user, run=run)
    models.LmsProfile.objects.create(user=user)
    models.Retirement.objects.create(username="gone")
    name = model._meta.model_name
    answer = staff.get(reverse(f"admin:usher_{name}_changelist"), {"q": "x"})
    assert answer.status_code == 200
    row = model.objects.first()
    assert staff.get(reverse(f"admin:usher_{name}_change", args=[row.pk])).status_code == 200
    for state in State:
        answer = staff.get(reverse(f"admin:usher_{name}_changelist"), {"state": state})
        # 302: Django redirects if the list of this model has no filter by state.
        assert answer.status_code in (200, 302)


def test_retry_makes_a_refused_account_due_and_repair_creates_the_account(system, staff):
    user = system.learner()
    account = ensure_account(user)
    models.LmsAccount.objects.set_work(refused_at=timezone.now(), due_at=None)
    assert "Due now: 1" in run_action(staff, models.LmsAccount, "retry", account)
    account.refresh_from_db()
    assert account.refused_at is None
    assert "1 changed" in run_action(staff, models.LmsAccount, "repair", account)
    account.refresh_from_db()
    assert account.is_ready


def test_the_admin_changes_whether_an_account_is_active_but_not_its_username(staff):
    from tests.application.conftest import make_learner

    account = ensure_account(make_learner())
    url = reverse("admin:usher_lmsaccount_change", args=[account.pk])
    staff.post(url, {"username": "another", "is_active": ""})
    name = account.username
    account.refresh_from_db()
    assert account.username == name
    assert account.is_active is False
    assert account.generation == 2  # the desired state changed once


def test_a_username_reservation_cannot_be_deleted(staff):
    from tests.application.conftest import make_learner

    ensure_account(make_learner())
    row = models.UsernameReservation.objects.first()
    url = reverse("admin:usher_usernamereservation_delete", args=[row.pk])
    assert staff.post(url, {"post": "yes"}).status_code == 403


def test_an_enrollment_can_be_deleted_only_after_the_lms_has_ended_it(system, staff):
    user, run = system.learner(), ensure_run(DEMO)
    row = enroll(user, run, reconcile_now=True)
    delete = reverse("admin:usher_enrollment_delete", args=[row.pk])
    assert staff.post(delete, {"post": "yes"}).status_code == 403
    run_action(staff, models.Enrollment, "delete_selected", row)
    url = reverse("admin:usher_enrollment_changelist")
    confirmed = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    staff.post(url, confirmed)
    assert models.Enrollment.objects.filter(pk=row.pk).exists()
    assert "Unenrolled: 1" in run_action(staff, models.Enrollment, "unenroll", row)
    assert staff.post(delete, {"post": "yes"}).status_code == 403  # not sent to the LMS yet
    run_action(staff, models.Enrollment, "repair", row)
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", False)}
    assert staff.post(delete, {"post": "yes"}).status_code == 302
    assert not models.Enrollment.objects.filter(pk=row.pk).exists()


def test_an_enrollment_in_a_mistyped_run_can_be_deleted(system, staff):
    """The console advises staff to delete such an enrollment."""
    run = ensure_run("course-v1:edX+Typo+1")
    row = enroll(system.learner(), run, reconcile_now=True)
    assert row.error_code == "unknown-run"
    delete_run = reverse("admin:usher_courserun_delete", args=[run.pk])
    assert staff.post(delete_run, {"post": "yes"}).status_code == 403
    delete = reverse("admin:usher_enrollment_delete", args=[row.pk])
    assert staff.post(delete, {"post": "yes"}).status_code == 302
    assert staff.post(delete_run, {"post": "yes"}).status_code == 302


def test_a_learner_can_be_deleted_with_their_enrollments(system, staff):
    """Although an enrollment alone can't be deleted while the LMS has it."""
    user = system.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    url = reverse("admin:accounts_user_delete", args=[user.pk])
    assert staff.post(url, {"post": "yes"}).status_code == 302
    assert not get_user_model().objects.filter(pk=user.pk).exists()
    assert not models.Enrollment.objects.exists()


def test_an_enrollment_accepts_only_modes_of_its_run(staff):
    from tests.application.conftest import make_learner

    run, other_run = ensure_run(DEMO), ensure_run("course-v1:edX+Other+1")
    for run_of_mode, slug in ((run, "audit"), (run, "verified"), (other_run, "honor")):
        models.CourseMode.objects.create(run=run_of_mode, slug=slug)
    row = enroll(make_learner(), run)
    url = reverse("admin:usher_enrollment_change", args=[row.pk])
    for mode in ("honor", "invented"):
        answer = staff.post(url, {"mode": mode, "is_active": "on"})
        assert "Select a valid choice" in answer.content.decode()
    assert staff.post(url, {"mode": "verified", "is_active": "on"}).status_code == 302
    row.refresh_from_db()
    # The desired state changed only once: invalid modes changed nothing.
    assert (row.mode, row.generation) == ("verified", 2)
    data = {"user": make_learner().pk, "run": run.pk, "mode": "honor", "is_active": "on"}
    answer = staff.post(reverse("admin:usher_enrollment_add"), data).content.decode()
    assert "has these modes: audit, verified" in answer


def test_a_change_locks_its_row(staff):
    """Otherwise a change of the learner at the same time could be lost."""
    from tests.application.conftest import make_learner

    enrollment = enroll(make_learner(), ensure_run(DEMO))
    # Neither form has is_active, so each row becomes inactive.
    for row, data in ((enrollment, {"mode": "audit"}), (enrollment.user.lms_account, {})):
        url = reverse(f"admin:usher_{row._meta.model_name}_change", args=[row.pk])
        with CaptureQueriesContext(connection) as queries:
            assert staff.post(url, data).status_code == 302
        statements = map(itemgetter("sql"), queries)
        locks = [sql for sql in statements if sql.startswith("SELECT") and "FOR UPDATE" in sql]
        has_locks = connection.features.has_select_for_update
        assert any(f'FROM "{row._meta.db_table}"' in sql for sql in locks) == has_locks
        row.refresh_from_db()
        assert not row.is_active


class OnlyAudit(DefaultAdapter):
    """Allows only the mode audit, and fails for learners named Bug."""

    def allowed_modes(self, user, run):
        if user.name == "Bug":
            raise KeyError("no such field")
        return ["audit"]


def test_an_enrollment_accepts_only_modes_that_the_adapter_allows(staff, settings):
    from tests.application.conftest import make_learner

    settings.USHER_ADAPTER = f"{__name__}.OnlyAudit"
    run, user, bug = ensure_run(DEMO), make_learner(), make_learner(name="Bug")
    for slug in ("audit", "verified"):
        models.CourseMode.objects.create(run=run, slug=slug)
    row = enroll(user, run)
    change = reverse("admin:usher_enrollment_change", args=[row.pk])
    html = staff.post(change, {"mode": "verified", "is_active": "on"}).content.decode()
    assert "USHER_ADAPTER does not allow this mode" in html
    data = {"user": bug.pk, "run": run.pk, "mode": "audit", "is_active": "on"}
    html = staff.post(reverse("admin:usher_enrollment_add"), data).content.decode()
    assert "allowed_modes of USHER_ADAPTER failed" in html
    # An enrollment whose mode an earlier adapter allowed can still be ended.
    models.Enrollment.objects.filter(pk=row.pk).update(mode="verified")
    assert staff.post(change, {"mode": "verified"}).status_code == 302
    row.refresh_from_db()
    assert not row.is_active


def test_adding_an_enrollment_creates_the_learner_s_account(system, staff):
    user, run = system.learner(), ensure_run(DEMO)
    data = {"user": user.pk, "run": run.pk, "mode": "audit", "is_active": "on"}
    assert staff.post(reverse("admin:usher_enrollment_add"), data).status_code == 302
    reconcile(["account", "token", "enrollment"])
    assert models.Enrollment.objects.get(user=user).is_settled
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}


def test_records_of_objects_in_the_lms_cannot_be_deleted(staff):
    from tests.application.conftest import make_learner

    user, run = make_learner(), ensure_run(DEMO)
    enrollment = enroll(user, run)
    retirement = models.Retirement.objects.create(username="gone")
    token = models.LmsToken.objects.get(user=user)
    for row in (user.lms_account, token, run, retirement):
        name = row._meta.model_name
        page = reverse(f"admin:usher_{name}_delete", args=[row.pk])
        assert staff.post(page, {"post": "yes"}).status_code == 403, name
        list_page = reverse(f"admin:usher_{name}_changelist")
        confirmed = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        staff.post(list_page, confirmed)
        assert type(row).objects.filter(pk=row.pk).exists(), name
    models.Enrollment.objects.filter(pk=enrollment.pk).delete()
    page = reverse("admin:usher_courserun_delete", args=[run.pk])
    assert staff.post(page, {"post": "yes"}).status_code == 302


def test_fields_have_plain_names_and_generations_are_under_advanced(staff):
    from tests.application.conftest import make_learner

    row = enroll(make_learner(), ensure_run(DEMO))
    html = staff.get(reverse("admin:usher_enrollment_changelist")).content.decode()
    assert "Mode in the LMS" in html
    assert "not known yet" in html
    html = staff.get(reverse("admin:usher_enrollment_change", args=[row.pk])).content.decode()
    assert ">Enrolled<" in html
    assert "Wanted active" not in html
    assert html.index("Advanced") < html.index("Observed generation")
