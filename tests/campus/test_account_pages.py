"""Sign-up, confirmation, sign-in, password reset and profile."""

import re

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from usher.application.accounts.models import LmsAccount, LmsProfile, UsernameReservation
from usher.application.audit.models import AuditEvent

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

SIGN_UP_FORM = {
    "name": "Ada Lovelace",
    "username": "ada",
    "email": "ada@learners.example",
    "password1": "correct horse battery",
}


def sign_up(client, **changes):
    return client.post("/accounts/signup/", SIGN_UP_FORM | changes)


def code_in(mail):
    """The code for the confirmation of an e-mail address."""
    return re.search(r"^[A-Z0-9]{3,5}-?[A-Z0-9]{3,5}$", mail.body, re.MULTILINE)[0]


def is_signed_in(client):
    return client.get("/dashboard/").status_code == 200


def form_errors(response):
    """Checks that the page shows its form again. Returns the form's errors."""
    assert response.status_code == 200
    return response.context["form"].errors


def test_signing_up_requires_the_code_that_was_mailed(client, mailoutbox):
    assert sign_up(client).url == "/accounts/confirm-email/"
    assert not is_signed_in(client)
    assert not LmsAccount.objects.exists(), "the e-mail address is not confirmed yet"
    assert client.post("/accounts/confirm-email/", {"code": "WRNG-CODE"}).status_code == 200
    answer = client.post("/accounts/confirm-email/", {"code": code_in(mailoutbox[0])})
    assert answer.url == "/dashboard/"
    assert is_signed_in(client)
    user = get_user_model().objects.get()
    assert (user.username, user.name) == ("ada", "Ada Lovelace")
    assert LmsAccount.objects.get(user=user).username == "ada"
    assert AuditEvent.objects.filter(name="sign-up", subject="ada", actor=user).exists()
    assert AuditEvent.objects.filter(name="sign-in", subject="ada", succeeded=True).exists()
    assert not AuditEvent.objects.filter(name="e-mail-changed").exists(), "it is the first one"


def test_the_mail_about_the_code_has_the_site_s_name(client, mailoutbox, settings):
    sign_up(client)
    assert mailoutbox[0].subject.startswith(settings.SITE_NAME)
    assert settings.SITE_NAME in mailoutbox[0].body


@pytest.mark.parametrize("username", ["ada", "ADA", "Ada"])
def test_the_username_of_a_deleted_learner_is_never_reused(client, username):
    former_user = get_user_model().objects.create_user("ada", "first@learners.example")
    client.force_login(former_user)  # reserves the username
    client.get("/logout/")
    former_user.delete()
    assert UsernameReservation.objects.filter(username="ada", user=None).exists()
    assert "username" in form_errors(sign_up(client, username=username))
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize(
    "username", ["a", "x" * 31, "bad name", "a@b.example", "zoë", "<script>", "a\x00b", ""]
)
def test_sign_up_refuses_usernames_that_the_lms_would_refuse(client, username):
    assert "username" in form_errors(sign_up(client, username=username))


def test_sign_up_with_a_used_email_address_creates_no_user_and_does_not_show_it_is_used(
    client, mailoutbox
):
    get_user_model().objects.create_user("first", "ada@learners.example")
    with_new_address = sign_up(client, email="new@learners.example", username="second")
    client.cookies.clear()  # the next request is another visitor's
    with_used_address = sign_up(client, email="ADA@learners.example", username="third")
    assert (with_used_address.status_code, with_used_address.url) == (
        with_new_address.status_code,
        with_new_address.url,
    )
    assert get_user_model().objects.filter(email__iexact="ada@learners.example").count() == 1
    # The owner of the address is told that there is an account; nobody gets a code.
    mail = mailoutbox[-1]
    assert mail.to == ["ada@learners.example"]
    assert "code" not in mail.body.lower()


@pytest.mark.parametrize("password", ["short", "12345678901", "password", "ada@learners.example"])
def test_weak_passwords_are_refused(client, password):
    assert "password1" in form_errors(sign_up(client, password1=password))


@pytest.mark.parametrize("login", ["ada", "ADA", "ada@learners.example", "Ada@Learners.Example"])
def test_a_learner_signs_in_by_username_or_email_address_in_any_case(client, login):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    form = {"login": login, "password": "correct horse battery"}
    assert client.post("/accounts/login/", form).url == "/dashboard/"
    assert is_signed_in(client)


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_never_redirects_to_another_site(client, target):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    form = {"login": "ada", "password": "correct horse battery", "next": target}
    answer = client.post("/accounts/login/", form)
    assert answer.status_code == 302
    assert answer.url == "/dashboard/"


def test_forms_require_the_csrf_token(learner):
    strict = Client(enforce_csrf_checks=True)
    for path in ("/accounts/login/", "/accounts/signup/", "/profile/"):
        assert strict.post(path, {"login": "ada"}).status_code == 403


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "latin-1"])
def test_a_form_in_another_encoding_than_utf_8_is_answered_with_400(charset):
    """Only a visitor who has the cookie for the CSRF token gets as far as the form."""
    visitor = Client(enforce_csrf_checks=True)
    visitor.get("/accounts/login/")
    answer = visitor.post(
        "/accounts/login/",
        b"login=ada",
        content_type=f"application/x-www-form-urlencoded; charset={charset}",
        headers={"X-CSRFToken": visitor.cookies[settings.CSRF_COOKIE_NAME].value},
    )
    assert answer.status_code == 400
    assert f"{settings.SITE_NAME}</title>" in answer.content.decode()


def test_password_guessing_is_rate_limited(client):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    for _ in range(6):  # five in five minutes are allowed
        client.post("/accounts/login/", {"login": "ada", "password": "wrong"})
    form = {"login": "ada", "password": "correct horse battery"}
    client.post("/accounts/login/", form)
    assert not is_signed_in(client)


def test_sign_ups_from_one_address_are_limited(client):
    statuses = [
        # The weak password is refused, so that the client is not signed in.
        sign_up(client, username=f"learner{n}", email=f"l{n}@x.example", password1="1").status_code
        for n in range(22)  # 20 a minute are allowed
    ]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert "Too many attempts" in sign_up(client).text


@pytest.mark.parametrize("host", ["localhost:666", "127.0.0.1", "host.docker.internal:8013"])
def test_links_in_mail_ignore_the_host_header(client, mailoutbox, learner, host):
    """An attacker could request a mail for somebody else with a Host header of their choice."""
    learner.set_password("correct horse battery")
    learner.save()
    for email in (learner.email, "nobody@learners.example"):
        client.post("/accounts/password/reset/", {"email": email}, headers={"Host": host})
    assert len(mailoutbox) == 2
    for mail in mailoutbox:
        assert host not in mail.body + mail.subject
        for link in re.findall(r"https?://\S+", mail.body):
            assert link.startswith(settings.SITE_BASE_URL + "/")


def test_wrong_passwords_sent_to_different_hosts_count_together(client):
    get_user_model().objects.create_user("ada", "ada@learners.example", "correct horse battery")
    for port in range(1, 7):  # five wrong passwords in five minutes are allowed
        form = {"login": "ada", "password": "wrong"}
        client.post("/accounts/login/", form, headers={"Host": f"localhost:{port}"})
    form = {"login": "ada", "password": "correct horse battery"}
    client.post("/accounts/login/", form, headers={"Host": "localhost:99"})
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


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("/accounts/inactive/", "This account is deactivated"),
        ("/accounts/password/reset/done/", "Check your e-mail"),
        ("/accounts/password/reset/key/1-abc-def/", "Choose a new password"),
        ("/accounts/password/reset/key/done/", "Your password is changed"),
    ],
)
def test_pages_about_passwords_have_headings_of_the_site(client, path, heading):
    assert f"<h1>{heading}</h1>" in client.get(path).text


def test_a_used_link_for_a_new_password_offers_a_new_link(client):
    page = client.get("/accounts/password/reset/key/1-abc-def/").text
    assert "This link does not work any more" in page
    assert 'href="/accounts/password/reset/">Send a new link' in page


def test_a_user_created_by_staff_signs_in_without_confirming_the_email_address(client):
    get_user_model().objects.create_superuser("edx", "edx@example.org", "correct horse battery")
    client.post("/accounts/login/", {"login": "edx", "password": "correct horse battery"})
    assert is_signed_in(client)


def test_a_changed_profile_becomes_the_desired_state_in_the_lms(browser, learner):
    from django.utils import timezone

    LmsAccount.objects.filter(user=learner).update(created_in_lms_at=timezone.now())
    assert browser.post("/profile/", {"name": "Ada King", "country": "GB"}).status_code == 302
    learner.refresh_from_db()
    assert (learner.name, learner.country) == ("Ada King", "GB")
    profile = LmsProfile.objects.get(user=learner)
    assert (profile.name, profile.country) == ("Ada King", "GB")


def test_the_profile_page_changes_no_username_email_address_or_staff_status(browser, learner):
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
    assert "country" in form_errors(answer)


def test_a_changed_email_address_is_used_after_its_confirmation(browser, learner, mailoutbox):
    from allauth.account.models import EmailAddress

    EmailAddress.objects.create(user=learner, email=learner.email, primary=True, verified=True)
    browser.post("/accounts/email/", {"action_add": "", "email": "new@learners.example"})
    learner.refresh_from_db()
    assert learner.email == "ada@learners.example"
    browser.post("/accounts/confirm-email/", {"code": code_in(mailoutbox[-1])})
    learner.refresh_from_db()
    assert learner.email == "new@learners.example"
    assert AuditEvent.objects.filter(name="e-mail-changed", subject="ada", actor=learner).exists()


def test_usernames_and_email_addresses_are_unique_regardless_of_case():
    from django.db import IntegrityError, transaction

    users = get_user_model().objects
    users.create_user("ada", "ada@learners.example")
    for name, email in [("ADA", "other@x.example"), ("other", "ADA@learners.example")]:
        with pytest.raises(IntegrityError), transaction.atomic():
            get_user_model()(username=name, email=email).save()
