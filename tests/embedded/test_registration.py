"""Answers of the registration API that were not recorded from a real LMS agree with the platform's
source."""

import pytest

from tests.support.embedded import EmbeddedLms


def refusal(lms: EmbeddedLms, name: str, /, **changed: str) -> tuple[int, dict[str, object]]:
    """Tries to register a learner. Returns status and body of the answer. changed: fields of the
    form."""
    answer = lms.register(name, **changed)
    return answer.status_code, answer.json()


def message(field: str, text: str, code: str = "validation-error") -> dict[str, object]:
    """The body of a refusal because of one field. code: its ``error_code``."""
    return {field: [{"user_message": text}], "error_code": code}


def test_a_username_of_31_characters_is_refused(lms: EmbeddedLms) -> None:
    text = "Username must be between 2 and 30 characters long."
    assert refusal(lms, "x" * 31) == (400, message("username", text))


def test_a_taken_email_address_is_refused(lms: EmbeddedLms, name: str) -> None:
    text = "This email is already associated with an existing account"
    expected = message("email", text, "duplicate-email")
    assert refusal(lms, name, email="plain@example.org") == (409, expected)


def test_registration_through_a_provider_requires_an_access_token(
    lms: EmbeddedLms, name: str
) -> None:
    text = "An access_token is required when passing value (mitxpro-oauth2) for provider."
    expected = message("access_token", text, "tpa-missing-access-token")
    assert refusal(lms, name, access_token="") == (400, expected)


def test_the_access_token_of_an_already_linked_learner_is_refused(
    lms: EmbeddedLms, name: str
) -> None:
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
def test_invalid_full_names_are_refused(lms: EmbeddedLms, name: str, value: str, text: str) -> None:
    assert refusal(lms, name, name=value) == (400, message("name", text))


def test_registration_without_a_provider_requires_a_password(lms: EmbeddedLms, name: str) -> None:
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


def test_registration_creates_profile_activation_key_link_and_language_preference(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name, country="FR")
    script = f"""
from django.contrib.auth.models import User
user = User.objects.get(username={name!r})
link = user.social_auth.get()
print(user.has_usable_password(), user.profile.name, user.profile.country.code,
      len(user.registration.activation_key), link.provider, link.uid,
      user.preferences.get().value, user.attributes.count())
"""
    # 0: accounts created on the LMS's own site lack the attribute ``created_on_site``.
    assert lms.shell(script) == f"True Name {name} FR 32 mitxpro-oauth2 {name} en 0"


def test_suggested_usernames_derive_from_the_taken_username_or_the_full_name(
    lms: EmbeddedLms,
) -> None:
    refused = lms.register("plainlearner", email="free@learners.example").json()
    names = refused["username_suggestions"]
    assert len(names) == 3
    assert all(name.startswith("plainlearner_") for name in names)
    with lms.browser() as browser:
        answer = browser.post(
            "/api/user/v1/validation/registration", data={"name": "Ada Lovelace"}
        ).json()
    assert answer["username_suggestions"][:2] == ["adalovelace", "a-lovelace"]


def test_validation_reports_taken_and_malformed_values_of_each_field(lms: EmbeddedLms) -> None:
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


def test_each_address_has_a_separate_registration_limit_that_a_setting_defines(
    strict_lms: EmbeddedLms,
) -> None:
    statuses = [strict_lms.register(f"limited{number}").status_code for number in range(3)]
    assert statuses == [200, 200, 403]
    with strict_lms.browser() as browser:
        from_other_address = browser.post(
            "/user_api/v1/account/registration/",
            data={"username": "another", "honor_code": "true"},
            headers={"X-Forwarded-For": "203.0.113.9"},
        )
    # Fields are missing, but the request is not over the limit.
    assert from_other_address.status_code == 400


def test_registration_is_refused_if_a_feature_switches_public_registration_off(
    closed_lms: EmbeddedLms,
) -> None:
    answer = closed_lms.register("somebody")
    assert (answer.status_code, answer.text) == (403, "Account creation not allowed.")
