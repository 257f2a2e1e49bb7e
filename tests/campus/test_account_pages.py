"""Sign-up, confirmation, sign-in, password reset and profile."""

import re

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model

from usher.application.accounts.models import LmsAccount, LmsProfile, UsernameReservation
from usher.application.audit.models import AuditEvent

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

FORM = {
    "name": "Ada Lovelace",
    "username": "ada",
    "email": "ada@learners.example",
    "password1": "correct horse battery",
}


def sign_up(client, **changes):
    return client.post("/accounts/signup/", FORM | changes)


def code_in(mail):
    return re.search(r"^[A-Z0-9]{3,5}-?[A-Z0-9]{3,5}$", mail.body, re.MULTILINE)[0]


def is_signed_in(client):
    return client.get("/dashboard/").status_code == 200


def errors(response):
    assert response.status_code == 200
    return response.context["form"].errors


def test_signing_up_asks_for_the_code_that_was_mailed(client, mailoutbox):
    assert sign_up(client).url == "/accounts/confirm-email/"
    assert not is_signed_in(client)
    assert not LmsAccount.objects.exists(), "not before the address is known to be theirs"
    assert client.post("/accounts/confirm-email/", {"code": "WRNG-CODE"}).status_code == 200
    answer = client.post("/accounts/confirm-email/", {"code": code_in(mailoutbox[0])})
    assert answer.url == "/dashboard/"
    assert is_signed_in(client)
    user = get_user_model().objects.get()
    assert (user.username, user.name) == ("ada", "Ada Lovelace")
    assert LmsAccount.objects.get(user=user).username == "ada"
    assert AuditEvent.objects.filter(name="sign-up", subject="ada", actor=user).exists()
    assert AuditEvent.objects.filter(name="sign-in", subject="ada", succeeded=True).exists()


def test_the_mail_is_in_the_site_s_name(client, mailoutbox, settings):
    sign_up(client)
    assert mailoutbox[0].subject.startswith(settings.SITE_NAME)
    assert settings.SITE_NAME in mailoutbox[0].body


@pytest.mark.parametrize("username", ["ada", "ADA", "Ada"])
def test_the_username_of_a_deleted_learner_is_never_reused(client, username):
    gone = get_user_model().objects.create_user("ada", "first@learners.example")
    client.force_login(gone)
    client.get("/logout/")
    gone.delete()
    assert UsernameReservation.objects.filter(username="ada", user=None).exists()
    assert "username" in errors(sign_up(client, username=username))
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize(
    "username", ["a", "x" * 31, "bad name", "a@b.example", "zoë", "<script>", "a\x00b", ""]
)
def test_names_that_the_lms_would_refuse_are_refused_here(client, username):
    assert "username" in errors(sign_up(client, username=username))


def test_an_address_can_not_be_taken_twice_nor_found_out(client, mailoutbox):
    get_user_model().objects.create_user("first", "ada@learners.example")
    first = sign_up(client, email="new@learners.example", username="second")
    client.cookies.clear()
    again = sign_up(client, email="ADA@learners.example", username="third")
    assert (first.status_code, first.url) == (again.status_code, again.url)
    assert get_user_model().objects.filter(email__iexact="ada@learners.example").count() == 1
    assert "code" not in mailoutbox[-1].body.lower() or mailoutbox[-1].to == [
        "ADA@learners.example".lower()
    ]


@pytest.mark.parametrize("password", ["short", "12345678901", "password", "ada@learners.example"])
def test_weak_passwords_are_refused(client, password):
    assert "password1" in errors(sign_up(client, password1=password))


@pytest.mark.parametrize("login", ["ada", "ADA", "ada@learners.example", "Ada@Learners.Example"])
def test_signing_in_by_name_or_address_in_any_case(client, login):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    page = {"login": login, "password": "correct horse battery"}
    assert client.post("/accounts/login/", page).url == "/dashboard/"
    assert is_signed_in(client)


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_never_redirects_to_another_site(client, target):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    page = {"login": "ada", "password": "correct horse battery", "next": target}
    answer = client.post("/accounts/login/", page)
    assert answer.status_code == 302
    assert answer.url == "/dashboard/"


def test_signing_in_needs_the_page_s_own_token(learner):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    for path in ("/accounts/login/", "/accounts/signup/", "/profile/"):
        assert strict.post(path, {"login": "ada"}).status_code == 403


def test_password_guessing_is_rate_limited(client):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    for _ in range(6):
        client.post("/accounts/login/", {"login": "ada", "password": "wrong"})
    page = {"login": "ada", "password": "correct horse battery"}
    client.post("/accounts/login/", page)
    assert not is_signed_in(client)


def test_sign_ups_from_one_address_are_limited(client):
    statuses = [
        sign_up(client, username=f"learner{n}", email=f"l{n}@x.example", password1="1").status_code
        for n in range(22)
    ]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert "Too many attempts" in sign_up(client).text


@pytest.mark.parametrize("host", ["localhost:666", "127.0.0.1", "host.docker.internal:8013"])
def test_links_in_mail_do_not_follow_the_host_header(client, mailoutbox, learner, host):
    """The host header may come from an attacker who requested the mail for somebody else."""
    learner.set_password("correct horse battery")
    learner.save()
    for email in (learner.email, "nobody@learners.example"):
        client.post("/accounts/password/reset/", {"email": email}, headers={"Host": host})
    assert len(mailoutbox) == 2
    for mail in mailoutbox:
        assert host not in mail.body + mail.subject
        for link in re.findall(r"https?://\S+", mail.body):
            assert link.startswith(settings.SITE_BASE_URL + "/")


def test_another_host_is_no_way_around_the_limit_of_wrong_passwords(client):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    for port in range(6):
        form = {"login": "ada", "password": "wrong"}
        client.post("/accounts/login/", form, headers={"Host": f"localhost:{port + 1}"})
    page = {"login": "ada", "password": "correct horse battery"}
    client.post("/accounts/login/", page, headers={"Host": "localhost:99"})
    assert not is_signed_in(client)


def test_a_forgotten_password_is_reset_by_mail(client, mailoutbox, learner):
    learner.set_password("correct horse battery")
    learner.save()
    client.post("/accounts/password/reset/", {"email": learner.email})
    link = re.search(r"http://\S+", mailoutbox[0].body)[0]
    path = "/" + link.split("/", 3)[3]
    form = client.get(path, follow=True)
    answer = client.post(
        form.redirect_chain[-1][0],
        {"password1": "another horse battery", "password2": "another horse battery"},
    )
    assert answer.status_code == 302
    learner.refresh_from_db()
    assert learner.check_password("another horse battery")
    assert AuditEvent.objects.filter(name="own-password-changed", subject="ada").exists()


def test_a_user_created_by_staff_signs_in_without_confirming(client):
    get_user_model().objects.create_superuser("edx", "edx@example.org", "correct horse battery")
    client.post("/accounts/login/", {"login": "edx", "password": "correct horse battery"})
    assert is_signed_in(client)


def test_a_changed_profile_is_wanted_in_the_lms(browser, learner):
    from django.utils import timezone

    LmsAccount.objects.filter(user=learner).update(created_in_lms_at=timezone.now())
    assert browser.post("/profile/", {"name": "Ada King", "country": "GB"}).status_code == 302
    learner.refresh_from_db()
    assert (learner.name, learner.country) == ("Ada King", "GB")
    wanted = LmsProfile.objects.get(user=learner)
    assert (wanted.name, wanted.country) == ("Ada King", "GB")


def test_a_profile_can_not_change_the_username(browser, learner):
    browser.post(
        "/profile/",
        {"name": "X", "username": "root", "email": "x@evil.example", "is_staff": "on"},
    )
    learner.refresh_from_db()
    assert (learner.username, learner.email, learner.is_staff) == (
        "ada",
        "ada@learners.example",
        False,
    )


@pytest.mark.parametrize("country", ["XX", "gb", "<b>", "GBR"])
def test_an_unknown_country_is_refused(browser, country):
    answer = browser.post("/profile/", {"name": "Ada", "country": country})
    assert "country" in errors(answer)


def test_a_changed_address_counts_when_it_is_confirmed(browser, learner, mailoutbox):
    from allauth.account.models import EmailAddress

    EmailAddress.objects.create(user=learner, email=learner.email, primary=True, verified=True)
    browser.post("/accounts/email/", {"action_add": "", "email": "new@learners.example"})
    learner.refresh_from_db()
    assert learner.email == "ada@learners.example"
    browser.post("/accounts/confirm-email/", {"code": code_in(mailoutbox[-1])})
    learner.refresh_from_db()
    assert learner.email == "new@learners.example"


def test_two_people_may_not_differ_by_case_alone():
    from django.db import IntegrityError, transaction

    users = get_user_model().objects
    users.create_user("ada", "ada@learners.example")
    for name, email in [("ADA", "other@x.example"), ("other", "ADA@learners.example")]:
        with pytest.raises(IntegrityError), transaction.atomic():
            get_user_model()(username=name, email=email).save()
