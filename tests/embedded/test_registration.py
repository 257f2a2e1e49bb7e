"""Answers of the registration API that were not recorded from a real LMS agree with the platform's
source."""

import pytest

from tests.support.embedded import EmbeddedLms


def refusal(lms: EmbeddedLms, name: str, /, **changed: str) -> tuple[int, dict[str, object]]:
    answer = lms.register(name, **changed)
    return answer.status_code, answer.json()


def message(field: str, text: str, code: str = "validation-error") -> dict[str, object]:
    return {field: [{"user_message": text}], "error_code": code}


def test_a_username_of_31_characters(lms: EmbeddedLms) -> None:
    text = "Username must be between 2 and 30 characters long."
    assert refusal(lms, "x" * 31) == (400, message("username", text))


def test_an_email_that_is_taken(lms: EmbeddedLms, name: str) -> None:
    text = "This email is already associated with an existing account"
    expected = message("email", text, "duplicate-email")
    assert refusal(lms, name, email="plain@example.org") == (409, expected)


def test_no_access_token(lms: EmbeddedLms, name: str) -> None:
    text = "An access_token is required when passing value (mitxpro-oauth2) for provider."
    expected = message("access_token", text, "tpa-missing-access-token")
    assert refusal(lms, name, access_token="") == (400, expected)


def test_the_token_of_a_learner_who_is_linked_already(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    text = "The provided access_token is already associated with another user."
    expected = message("access_token", text, "tpa-token-already-associated")
    other = {"email": f"x{name}@learners.example", "access_token": f"tok-{name}"}
    assert refusal(lms, f"x{name}", **other) == (400, expected)
    with lms.api() as api:
        assert api.get(f"/api/user/v1/accounts/x{name}").status_code == 404


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("A <b>name", "Full Name cannot contain the following characters: < >"),
        ("see http://spam.example", "Enter a valid name"),
        ("n" * 256, "Your legal name is too long. It must not exceed 255 characters"),
    ],
)
def test_names_that_are_refused(lms: EmbeddedLms, name: str, value: str, text: str) -> None:
    assert refusal(lms, name, name=value) == (400, message("name", text))


def test_without_provider_a_password_is_asked_for(lms: EmbeddedLms, name: str) -> None:
    data = {"username": name, "email": f"{name}@x.example", "name": "N", "honor_code": "true"}
    with lms.browser() as browser:
        answer = browser.post("/user_api/v1/account/registration/", data=data)
        assert (answer.status_code, answer.json()) == (
            400,
            message("password", "This field is required."),
        )
        response = browser.post(
            "/user_api/v1/account/registration/", data={**data, "password": "Correct horse 1"}
        )
        assert response.status_code == 200
        # Nobody has confirmed the e-mail address yet.
        assert browser.get(f"/api/user/v1/accounts/{name}").json()["is_active"] is False


def test_the_account_is_complete(lms: EmbeddedLms, name: str) -> None:
    lms.register(name, country="FR")
    script = f"""
from django.contrib.auth.models import User
user = User.objects.get(username={name!r})
link = user.social_auth.get()
print(user.has_usable_password(), user.profile.name, user.profile.country.code,
      len(user.registration.activation_key), link.provider, link.uid,
      user.preferences.get().value, user.attributes.count())
"""
    assert lms.shell(script) == f"True Name {name} FR 32 mitxpro-oauth2 {name} en 0"


def test_suggestions_are_free_and_made_of_the_name(lms: EmbeddedLms) -> None:
    taken = lms.register("plainlearner", email="free@learners.example").json()
    names = taken["username_suggestions"]
    assert len(names) == 3
    assert all(name.startswith("plainlearner_") for name in names)
    with lms.browser() as browser:
        answer = browser.post(
            "/api/user/v1/validation/registration", data={"name": "Ada Lovelace"}
        ).json()
    assert answer["username_suggestions"][:2] == ["adalovelace", "a-lovelace"]


def test_validation_of_what_is_taken_or_wrong(lms: EmbeddedLms) -> None:
    data = {
        "username": "plainlearner",
        "email": "plain@example.org",
        "password": "short",
        "country": "",
        "confirm_email": "other@example.org",
    }
    with lms.browser() as browser:
        answer = browser.post("/api/user/v1/validation/registration", data=data).json()
        malformed = browser.post(
            "/api/user/v1/validation/registration", data={"username": "a b", "email": "nope"}
        ).json()
    assert answer["validation_decisions"] == {
        "username": "It looks like this username is already taken",
        "email": "This email is already associated with an existing account",
        "confirm_email": "The email addresses do not match",
        "password": "This password is too short. It must contain at least 8 characters.",
        "country": "Select your country or region of residence",
    }
    assert malformed["validation_decisions"] == {
        "username": "Usernames can only contain letters (A-Z, a-z), numerals (0-9), "
        "underscores (_), and hyphens (-).",
        "email": "Enter a valid email address",
    }


def test_the_limit_counts_by_address_and_is_a_setting(strict_lms: EmbeddedLms) -> None:
    statuses = [strict_lms.register(f"limited{number}").status_code for number in range(3)]
    assert statuses == [200, 200, 403]
    with strict_lms.browser() as browser:
        behind = browser.post(
            "/user_api/v1/account/registration/",
            data={"username": "another", "honor_code": "true"},
            headers={"X-Forwarded-For": "203.0.113.9"},
        )
    assert behind.status_code == 400


def test_public_registration_may_be_switched_off(closed_lms: EmbeddedLms) -> None:
    answer = closed_lms.register("somebody")
    assert (answer.status_code, answer.text) == (403, "Account creation not allowed.")
