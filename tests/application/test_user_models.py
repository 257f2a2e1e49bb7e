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


def test_active_users() -> None:
    everybody = Member._default_manager.all()
    assert str(active(everybody).query) == str(everybody.query)
    assert "is_active" in str(active(Card._default_manager.all()).query.where)


def test_the_fields_that_name_a_user() -> None:
    assert naming_fields(Member) == ["mail"]
    assert naming_fields(Card) == ["number"]
    assert naming_fields() == ["username", "email"]


def test_primary_keys_of_any_type() -> None:
    one = Member()
    assert key(str(one.pk), Member) == one.pk
    assert key("12", Member) is None
    assert key("x", Card) is None
    assert (key_of(one), key_of(Card(pk=7))) == (str(one.pk), 7)


def test_the_lms_gets_the_key_as_json_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "lms_username", lambda user: "ada")
    one = Member(mail="ada@example.org")
    assert claims.profile(one)["id"] == str(one.pk)
    assert claims.claims(one, {"user:read"})["id"] == str(one.pk)


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
