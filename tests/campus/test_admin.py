"""Changes to users in the admin change the desired state in the LMS."""

import pytest
from django.utils import timezone

from usher.application.accounts.models import (
    LmsAccount,
    LmsProfile,
    Retirement,
    UsernameReservation,
)
from usher.application.enrollments.models import Enrollment

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(browser, learner):
    """The learner's LMS account, recorded as created. ``browser`` requested it by signing in."""
    account = LmsAccount.objects.get(user=learner)
    LmsAccount.objects.filter(pk=account.pk).update(created_in_lms_at=timezone.now())
    return account


def change_user(admin_client, learner, **values):
    """Submits the learner's form in the admin. values: fields with other values."""
    page = f"/admin/accounts/user/{learner.pk}/change/"
    form = admin_client.get(page).context["adminform"].form
    data = {name: value for name, value in form.initial.items() if value not in (None, False, [])}
    # The admin's form has two fields for each of these times, a date and a time of day.
    for name in ("last_login", "date_joined"):
        moment = data.pop(name, None)
        if moment is not None:
            data |= {f"{name}_0": f"{moment:%Y-%m-%d}", f"{name}_1": f"{moment:%H:%M:%S}"}
    answer = admin_client.post(page, {**data, **values})
    assert answer.status_code == 302, answer.context["adminform"].form.errors


def test_deactivating_a_user_deactivates_the_account_until_the_user_is_activated(
    admin_client, learner, account
):
    change_user(admin_client, learner, is_active="")
    account.refresh_from_db()
    assert account.is_active is False
    change_user(admin_client, learner, is_active="on")
    account.refresh_from_db()
    assert account.is_active is True


def test_a_changed_name_becomes_the_desired_state_in_the_lms(admin_client, learner, account):
    change_user(admin_client, learner, name="Ada King")
    assert LmsProfile.objects.get(user=learner).name == "Ada King"


def test_a_username_cannot_be_changed(admin_client, learner, account):
    change_user(admin_client, learner, username="other")
    learner.refresh_from_db()
    assert learner.username == "ada"


def test_deleting_a_user_retires_the_account_and_keeps_the_username_reserved(
    admin_client, learner, account
):
    answer = admin_client.post(f"/admin/accounts/user/{learner.pk}/delete/", {"post": "yes"})
    assert answer.status_code == 302
    assert Retirement.objects.get().username == "ada"
    assert UsernameReservation.objects.get(username="ada").user is None


def test_the_list_of_each_model_opens(admin_client):
    index = admin_client.get("/admin/")
    links = [
        model["admin_url"]
        for app in index.context["app_list"]
        for model in app["models"]
        if model["admin_url"]
    ]
    assert len(links) > 15, "the index lists Usher's models too"
    for link in links:
        assert admin_client.get(link).status_code == 200, link


def test_the_admin_redirects_to_the_sign_in_page_that_limits_wrong_passwords(client, admin_user):
    response = client.get("/admin/accounts/user/", follow=True)
    address_of_sign_in, _ = response.redirect_chain[-1]
    assert address_of_sign_in.startswith("/accounts/login/?next=%2Fadmin%2F")
    wrong = {"login": admin_user.username, "password": "guessed", "next": "/admin/"}
    # Five wrong passwords in five minutes are allowed.
    answers = [client.post("/accounts/login/", wrong) for _ in range(6)]
    assert "Too many failed" in answers[-1].text
    # The admin's own form accepts no password either, not even the correct one.
    own_form = {"username": "admin", "password": "password"}
    assert client.post("/admin/login/", own_form).status_code == 302
    assert "_auth_user_id" not in client.session


def test_the_admin_answers_403_to_a_user_who_is_not_staff(browser):
    assert browser.get("/admin/", follow=True).status_code == 403


def test_the_admin_changes_whether_a_run_is_live_but_not_its_key_title_and_start(admin_client, run):
    page = f"/admin/usher/courserun/{run.pk}/change/"
    no_modes = {"modes-TOTAL_FORMS": "0", "modes-INITIAL_FORMS": "0"}
    form = {"course_key": "course-v1:other+1+1", "title": "Mine", "start_0": "2030-01-01"}
    form |= no_modes
    assert admin_client.post(page, form).status_code == 302
    former_values = run.course_key, run.title, run.start
    run.refresh_from_db()
    assert (run.course_key, run.title, run.start) == former_values
    assert run.live is False, "the form has no value for the checkbox"
    answer = admin_client.post("/admin/usher/courserun/add/", form | {"live": "on"})
    assert answer.status_code == 302, "a new run can have any key"


def test_the_admin_changes_the_mode_of_an_enrollment_but_not_its_learner(
    admin_client, admin_user, learner, run
):
    row = Enrollment.objects.create(user=learner, run=run)
    form = {"user": admin_user.pk, "run": run.pk, "mode": "verified", "is_active": "on"}
    page = f"/admin/usher/enrollment/{row.pk}/change/"
    assert admin_client.post(page, form).status_code == 302
    row.refresh_from_db()
    assert (row.user, row.mode) == (learner, "verified")
    assert row.generation == 2, "the desired state changed once"
