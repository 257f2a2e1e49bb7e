"""``USHER_ADAPTER``: decisions of Usher that a project can override."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured

from usher.application.accounts import repair
from usher.application.accounts.details import details
from usher.application.accounts.services import ensure_account, ensure_accounts
from usher.application.adapter import DefaultAdapter, Refusal, adapter
from usher.application.explain import explain
from usher.application.provider.claims import profile
from usher.contract.limits import USERNAME_MAX_LENGTH

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


class NumberedNames(DefaultAdapter):
    def lms_username(self, user: Any) -> str:
        return f"pupil-{user.pk}"

    def full_name(self, user: Any) -> str:
        return f"Pupil {user.pk}"


def make_user(username: str, **fields: Any) -> Any:
    return get_user_model().objects.create_user(
        username=username, email=fields.pop("email", f"{username}@learners.example"), **fields
    )


def test_the_lms_username_is_the_learner_s_username() -> None:
    assert ensure_account(make_user("ada")).username == "ada"


@pytest.mark.parametrize("is_created_in_bulk", [False, True])
def test_an_email_address_never_becomes_a_public_username(is_created_in_bulk: bool) -> None:
    user = make_user("ann.smith@example.org", email="ann.smith@example.org", name="")
    if is_created_in_bulk:
        ensure_accounts()
    account = ensure_account(user)
    assert account.username.startswith("learner_")
    assert "smith" not in account.username
    assert len(account.username) <= USERNAME_MAX_LENGTH
    profile_data = profile(user)
    assert "smith" not in profile_data["username"] + profile_data["name"]
    assert "smith" not in details(user).name


def test_two_learners_named_by_email_addresses_get_different_usernames() -> None:
    first, second = make_user("a@example.org"), make_user("b@example.org")
    assert ensure_account(first).username != ensure_account(second).username


def test_the_adapter_decides_usernames_and_full_names(settings: Any) -> None:
    settings.USHER_ADAPTER = f"{__name__}.NumberedNames"
    user = make_user("ada", name="Ada Lovelace")
    assert ensure_account(user).username == f"pupil-{user.pk}"
    assert profile(user)["name"] == details(user).name == f"Pupil {user.pk}"


class OnlyAccepted(DefaultAdapter):
    """As in the guide's example, adds one condition to Usher's own decision about a learner. Fails
    for learners named Bug."""

    def is_eligible(self, user: Any) -> bool:
        if user.name == "Bug":
            raise AttributeError("no such field")
        return super().is_eligible(user) and user.name == "Accepted"


class OnlyVerified(DefaultAdapter):
    def is_confirmed(self, user: Any) -> bool:
        return super().is_confirmed(user) and user.name == "Verified"


class OnlyAcceptedByQuery(DefaultAdapter):
    def eligible(self, users: Any) -> Any:
        return super().eligible(users).filter(name="Accepted")


def test_is_eligible_also_filters_lists_of_learners(settings: Any) -> None:
    settings.USHER_ADAPTER = f"{__name__}.OnlyAccepted"
    names = ("accepted", "refused", "bug")
    accepted, refused, bug = (make_user(name, name=name.title()) for name in names)
    inactive = make_user("inactive", name="Accepted", is_active=False)
    users = get_user_model().objects.all()
    assert list(adapter().eligible(users)) == [accepted]
    assert repair.count_missing() == 1
    assert ensure_accounts(batch=1) == 1
    assert not any(hasattr(user, "lms_account") for user in (refused, bug, inactive))
    story = " ".join(f"{sentence.text} {sentence.cause}" for sentence in explain(bug))
    assert "is_eligible of USHER_ADAPTER failed: AttributeError: no such field." in story


def test_is_confirmed_also_filters_lists_of_learners(settings: Any) -> None:
    settings.USHER_ADAPTER = f"{__name__}.OnlyVerified"
    verified, unverified = (make_user(name, name=name.title()) for name in ("verified", "unknown"))
    assert list(adapter().confirmed(get_user_model().objects.all())) == [verified]
    assert list(adapter().eligible(get_user_model().objects.all())) == [verified]
    assert not adapter().is_eligible(unverified)


def test_eligible_also_decides_about_a_single_learner(settings: Any) -> None:
    settings.USHER_ADAPTER = f"{__name__}.OnlyAcceptedByQuery"
    accepted, refused = (make_user(name, name=name.title()) for name in ("accepted", "refused"))
    assert adapter().is_eligible(accepted)
    assert not adapter().is_eligible(refused)
    assert list(adapter().eligible(get_user_model().objects.all())) == [accepted]


class EmailFails(DefaultAdapter):
    def email(self, user: Any) -> str:
        raise KeyError("address")


def test_why_names_the_adapter_s_method_that_failed(settings: Any) -> None:
    settings.USHER_ADAPTER = f"{__name__}.EmailFails"
    first_sentence = explain(make_user("ada"))[0]
    assert "email of USHER_ADAPTER failed: KeyError: 'address'" in first_sentence.text


@pytest.mark.parametrize("path", ["no.such.Adapter", "usher.application.adapter.Refusal"])
def test_a_setting_that_names_no_adapter_is_rejected(settings: Any, path: str) -> None:
    settings.USHER_ADAPTER = path
    with pytest.raises(ImproperlyConfigured, match=f"USHER_ADAPTER is '{path}'"):
        adapter()


def test_learners_are_confirmed_as_allauth_has_recorded() -> None:
    """A user without an ``EmailAddress`` row counts as confirmed. A user who has only a row for
    another address does not."""
    from allauth.account.models import EmailAddress

    without_row, unconfirmed, confirmed, other_address = (
        make_user(name) for name in ("one", "two", "three", "four")
    )
    for user, address, verified in (
        (unconfirmed, unconfirmed.email, False),
        (confirmed, confirmed.email.upper(), True),
        (other_address, "former@learners.example", True),
    ):
        EmailAddress.objects.create(user=user, email=address, verified=verified)
    assert adapter().is_confirmed(without_row)
    assert adapter().is_confirmed(confirmed)
    assert not adapter().is_confirmed(unconfirmed)
    assert not adapter().is_confirmed(other_address)
    users = adapter().eligible(get_user_model().objects.order_by("pk"))
    assert list(users) == [without_row, confirmed]


def test_unconfirmed_learners_are_eligible_if_allauth_does_not_verify_addresses(
    settings: Any,
) -> None:
    from allauth.account.models import EmailAddress

    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    user = make_user("ada")
    EmailAddress.objects.create(user=user, email=user.email, verified=False)
    assert adapter().is_eligible(user)


@pytest.fixture
def no_mail_sent_before() -> Iterator[None]:
    """Forgets the time of the last mail about a refusal, which delays the next mail, before and
    after the test."""
    cache.delete("usher-refusals-mailed")
    yield
    cache.delete("usher-refusals-mailed")


def test_managers_get_one_mail_about_the_same_refusal_reported_twice(
    settings: Any, no_mail_sent_before: None
) -> None:
    settings.USHER_DIGEST_MINUTES = 0
    settings.MANAGERS = [("Staff", "staff@example.org")]
    refusal = Refusal(
        kind="enrollment",
        what="ada in R",
        code="closed",
        message="Enrollment is closed.",
        row=None,
    )
    refusals = [refusal]
    adapter().refused(refusals)
    adapter().refused(refusals)
    assert len(mail.outbox) == 1
    assert "enrollment ada in R: Enrollment is closed. [closed]" in mail.outbox[0].body
