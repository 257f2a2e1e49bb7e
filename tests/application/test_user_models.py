"""A project's user model may have other fields than Django's."""

import uuid

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.test import Client
from django.urls import reverse

from usher.application.provider import claims
from usher.application.user_model import active, key, key_of, naming_fields


class Member(AbstractBaseUser):
    """A user model with a UUID as key, ``mail`` as username field, and no field ``is_active``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    mail = models.EmailField(unique=True)
    EMAIL_FIELD = USERNAME_FIELD = "mail"

    class Meta:
        app_label = "members"


class Card(AbstractBaseUser):
    """A user model without an e-mail address."""

    number = models.CharField(max_length=9, unique=True)
    is_active = models.BooleanField(default=True)
    USERNAME_FIELD = "number"

    class Meta:
        app_label = "members"


def test_active_filters_only_if_the_user_model_has_is_active() -> None:
    members = Member._default_manager.all()
    assert str(active(members).query) == str(members.query)
    assert "is_active" in str(active(Card._default_manager.all()).query.where)


def test_naming_fields_are_the_username_and_email_fields_of_the_model() -> None:
    assert naming_fields(Member) == ["mail"]
    assert naming_fields(Card) == ["number"]
    assert naming_fields() == ["username", "email"]


def test_key_and_key_of_convert_primary_keys_of_any_type() -> None:
    member = Member()
    assert key(str(member.pk), Member) == member.pk
    assert key("12", Member) is None
    assert key("x", Card) is None
    assert (key_of(member), key_of(Card(pk=7))) == (str(member.pk), 7)


def test_the_profile_contains_a_uuid_key_as_a_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "lms_username", lambda user: "ada")
    member = Member(mail="ada@example.org")
    assert claims.profile(member)["id"] == str(member.pk)
    assert claims.claims(member, {"user:read"})["id"] == str(member.pk)


@pytest.mark.parametrize("model", ["lmsaccount", "lmstoken", "enrollment", "grade", "certificate"])
def test_the_admin_searches_by_the_fields_of_the_user_model(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """If the user model has no field ``email``, a search in ``email`` would fail."""
    monkeypatch.setattr("usher.application.admin.naming_fields", lambda: ["username"])
    page = admin_client.get(reverse(f"admin:usher_{model}_changelist"), {"q": "x"})
    assert page.status_code == 200
    searched = page.context["cl"].search_fields
    assert "user__username" in searched
    assert "user__email" not in searched
