"""A project's user model may have other fields than Django's."""

import uuid

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.test import Client
from django.urls import reverse

from usher.application import user_model
from usher.application.provider import claims


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
    assert str(user_model.active(members).query) == str(members.query)
    cards = Card._default_manager.all()
    assert "is_active" in str(user_model.active(cards).query.where)


def test_naming_fields_are_the_username_and_email_fields_of_the_model() -> None:
    assert user_model.naming_fields(Member) == ["mail"]
    assert user_model.naming_fields(Card) == ["number"]
    assert user_model.naming_fields() == ["username", "email"]


def test_primary_keys_are_converted_to_and_from_text_whatever_their_type() -> None:
    member = Member()
    assert user_model.primary_key_from_text(str(member.pk), Member) == member.pk
    assert user_model.primary_key_from_text("12", Member) is None
    assert user_model.primary_key_from_text("x", Card) is None
    assert user_model.primary_key_for_json(member) == str(member.pk)
    assert user_model.primary_key_for_json(Card(pk=7)) == 7


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
    search_fields = page.context["cl"].search_fields
    assert "user__username" in search_fields
    assert "user__email" not in search_fields
