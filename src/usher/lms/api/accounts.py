"""Creates and updates a batch of accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib.sites.models import Site
from social_django.models import UserSocialAuth

from usher.contract.events import EventType
from usher.contract.failures import RegistrationError
from usher.lms import conf
from usher.lms.accounts import lookup
from usher.lms.accounts.services import (
    Learner,
    account_differs,
    apply_filters,
    insert_account,
    insert_accounts,
    refuse_invalid,
    refuse_taken,
    update_account,
)
from usher.lms.api.repetitions import StoredOutcomes
from usher.lms.api.tokens import mint_tokens
from usher.lms.api.transactions import UncleanRefusal, WriteCounter, process_in_transactions
from usher.lms.connections.models import ConnectedApplication
from usher.lms.connections.services import is_protected
from usher.lms.errors import AccountRefused
from usher.lms.events import outbox
from usher.lms.provisioning.providers import current_record

Item = dict[str, Any]
#: The key of a message about the whole account in ``AccountRefused.fields``.
_NO_FIELD = ""


def process_accounts(
    items: list[Item], application: ConnectedApplication, site: Site, request_id: str = ""
) -> list[Item]:
    """Create or update each item's account; return the outcome of each, in order.

    items: validated by ``api.forms.AccountItem``. An outcome's ``status`` is ``created``,
    ``updated``, ``exists``, ``refused`` or, if the item may succeed later, ``failed``. request_id:
    with '', no outcomes are stored for a repetition. Raises RequestIdReused when an earlier request
    used the request id for other items.
    """
    stored_outcomes = StoredOutcomes(application, "accounts", request_id, items)

    # One transaction of ``process_in_transactions``; a repeated request gets the stored outcomes.
    def process(start: int, batch_items: list[Item]) -> list[Item]:
        return stored_outcomes.process_once(
            start, batch_items, lambda: _process_batch(batch_items, application, site)
        )

    return process_in_transactions(
        items, process, _failed_outcome, lambda item: item["username"].casefold()
    )


def _process_batch(items: list[Item], application: ConnectedApplication, site: Site) -> list[Item]:
    """The outcomes of the items of one transaction. The application is not notified of the changes,
    because it requested them."""
    no_course = ""
    pairs = frozenset((item["username"], no_course) for item in items)
    with outbox.collecting_changes(outbox.OwnChanges(application, EventType.ACCOUNT, pairs)):
        batch = _Batch(items, application, site)
        with batch.writes.counting():
            # One item alone may be here because inserting a whole batch failed.
            outcomes_of_new_accounts = batch.create_new_accounts(items) if len(items) > 1 else {}
            outcomes = [
                outcomes_of_new_accounts.get(number) or batch.process_one(item)
                for number, item in enumerate(items)
            ]
        batch.add_tokens(items, outcomes)
        return outcomes


def _failed_outcome(item: Item) -> Item:
    """The outcome of an item that raised an unexpected exception: a refusal."""
    message = "The LMS could not save this account; see the LMS's log for the error."
    fields = {_NO_FIELD: message}
    return _refused_outcome(item, AccountRefused(RegistrationError.VALIDATION, fields))


class _Batch:
    """The items of one transaction, with their rows from the database, read before the first
    change."""

    def __init__(self, items: list[Item], application: ConnectedApplication, site: Site) -> None:
        self.application, self.site = application, site
        self.writes = WriteCounter()
        #: Username in the application → user, of learners with a link. Created accounts are added.
        self.users: dict[str, Any] = {}
        self._add_linked_users([item["username"] for item in items])
        new_items = [item for item in items if item["username"] not in self.users]
        #: Those of the new learners' e-mail addresses, case-folded, that were invited to a course.
        self.invited = conf.platform().invited_emails([item["email"] for item in new_items])
        taken = lookup.find_taken(
            usernames=[item["username"] for item in new_items],
            emails=[item["email"] for item in new_items],
        )
        self.taken_usernames, self.taken_emails = set(taken.usernames), set(taken.emails)
        # Another request may have created accounts since the links were read.
        self._add_linked_users([item["username"] for item in new_items if self._is_taken(item)])

    def _is_taken(self, item: Item) -> bool:
        name, address = item["username"].casefold(), item["email"].casefold()
        return name in self.taken_usernames or address in self.taken_emails

    def _add_linked_users(self, names: list[str]) -> None:
        """Add the application's learners with these names, and their profiles, to ``users``."""
        if not names:
            return
        links = UserSocialAuth.objects.filter(provider=self.application.backend, uid__in=names)
        links = links.select_related("user__profile", "user__usher_service_worker")
        users = {link.uid: link.user for link in links}
        for user in users.values():
            if not hasattr(user, "profile"):
                user.profile = conf.platform().profile_model()(user=user)
        # Exact matches only: a case-insensitive database finds more.
        self.users.update({name: users[name] for name in names if name in users})

    def create_new_accounts(self, items: list[Item]) -> dict[int, Item]:
        """Create the accounts of learners who have none, in one batch. Returns {index of the item:
        its outcome}, without the items that ``process_one`` has to handle."""
        outcomes: dict[int, Item] = {}
        new_learners: dict[int, Learner] = {}
        handled_usernames = set(self.users)
        for number, item in enumerate(items):
            if item["username"] in handled_usernames:
                continue
            handled_usernames.add(item["username"])
            try:
                learner, invited = self._filter_and_check(_learner_of_item(item))
            except AccountRefused as refusal:
                outcomes[number] = _refused_outcome(item, refusal)
                continue
            if not invited:
                self._mark_as_taken(learner)
                new_learners[number] = learner
        try:
            users = insert_accounts([*new_learners.values()], self.application.backend, self.site)
            self._record_identity_verifications(users)
        except AccountRefused as refusal:
            # It came while the rows were inserted, so some may be written already.
            raise UncleanRefusal(str(refusal)) from refusal
        for number, user in zip(new_learners, users, strict=True):
            self.users[user.username] = user
            outcomes[number] = _outcome(items[number], "created", user)
        return outcomes

    def process_one(self, item: Item) -> Item:
        """Create or update one account; return the outcome."""
        learner = _learner_of_item(item)
        writes_before = self.writes.count
        user = self.users.get(learner.username)
        try:
            if user is not None:
                _refuse_renamed_account(user, learner)
                self._refuse_protected(user, learner, item)
                changed = account_differs(user, learner) and update_account(user, learner)
                status = "updated" if changed else "exists"
            else:
                user, status = self._create(learner), "created"
        except AccountRefused as refusal:
            if self.writes.count != writes_before:
                raise UncleanRefusal(str(refusal)) from refusal
            return _refused_outcome(item, refusal)
        return _outcome(item, status, user)

    def _refuse_protected(self, user: Any, learner: Learner, item: Item) -> None:
        """Raises AccountRefused if the item would change an account with rights in the LMS, or get
        its tokens."""
        if is_protected(user) and (item["tokens"] or account_differs(user, learner)):
            message = (
                f"{user.username} is staff of this LMS: the service worker may neither change that "
                "account nor get its tokens; change the account in the LMS's admin"
            )
            raise AccountRefused(RegistrationError.PROTECTED_ACCOUNT, {_NO_FIELD: message})

    def _create(self, learner: Learner) -> Any:
        """Create an account and return its user. Raises AccountRefused."""
        learner, invited = self._filter_and_check(learner)
        user = insert_account(learner, self.application.backend, self.site, invited=invited)
        self._record_identity_verifications([user])
        self._mark_as_taken(learner)
        self.users[learner.username] = user
        return user

    def _record_identity_verifications(self, users: list[Any]) -> None:
        """Record identity verifications of new accounts, if the provider vouches for them."""
        provider = current_record(self.site, self.application.backend) if users else None
        if provider and provider.enable_sso_id_verification:
            conf.platform().record_identity_verifications(users, provider)

    def _filter_and_check(self, learner: Learner) -> tuple[Learner, bool]:
        """The new learner with the values that registration filters return, and whether the learner
        was invited to a course. Without a name the learner gets the username as name. Raises
        AccountRefused."""
        requested_email = learner.email
        learner = apply_filters(replace(learner, name=learner.name or learner.username))
        refuse_taken(
            learner,
            lookup.TakenIdentifiers(
                usernames=frozenset(self.taken_usernames), emails=frozenset(self.taken_emails)
            ),
        )
        invited = learner.email.casefold() in self.invited
        if learner.email != requested_email:
            # A filter changed the address, and the new address has not been looked up yet.
            refuse_taken(learner, lookup.find_taken(usernames=[], emails=[learner.email]))
            invited = bool(conf.platform().invited_emails([learner.email]))
        refuse_invalid(learner)
        return learner, invited

    def _mark_as_taken(self, learner: Learner) -> None:
        self.taken_usernames.add(learner.username.casefold())
        self.taken_emails.add(learner.email.casefold())

    def add_tokens(self, items: list[Item], results: list[Item]) -> None:
        """Add tokens to the results of active learners whose items ask for them."""
        results_with_user = [
            (result, self.users[item["username"]])
            for item, result in zip(items, results, strict=True)
            if item["tokens"] and result["error"] is None and result["is_active"]
        ]
        tokens_of_users = mint_tokens(
            [user for _, user in results_with_user], self.application.oauth_client_id
        )
        for (result, _), tokens in zip(results_with_user, tokens_of_users, strict=True):
            result["tokens"] = tokens


def _refuse_renamed_account(user: Any, learner: Learner) -> None:
    """Raises AccountRefused if the linked account has another username than the learner. The
    account may be another person's, so it is neither changed nor used."""
    if user.username != learner.username:
        message = (
            f"{learner.username} signs in to the LMS account {user.username}, not to an account of "
            "the same name: that account was renamed, or the link was changed. The account was "
            "not updated"
        )
        raise AccountRefused(RegistrationError.LINKED_ELSEWHERE, {_NO_FIELD: message})


def _outcome(item: Item, status: str, user: Any) -> Item:
    return {
        "id": item["id"],
        "status": status,
        "username": user.username,
        "lms_user_id": user.pk,
        "is_active": user.is_active,
        "error": None,
        "tokens": None,
    }


def _learner_of_item(item: Item) -> Learner:
    return Learner(
        username=item["username"],
        email=item["email"],
        name=item.get("name") or "",
        country=item.get("country") or "",
        is_active=item["is_active"],
        reactivate=item.get("reactivate", False),
    )


def _refused_outcome(item: Item, refusal: AccountRefused) -> Item:
    return {
        "id": item["id"],
        "status": "refused",
        "username": item["username"],
        "lms_user_id": None,
        "is_active": None,
        "error": {
            "code": refusal.code.value,
            "message": str(refusal),
            "suggestions": refusal.suggestions,
            "fields": refusal.fields,
        },
        "tokens": None,
    }
