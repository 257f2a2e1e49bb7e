"""Many accounts in one go."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.sites.models import Site
from django.db import IntegrityError, transaction
from social_django.models import UserSocialAuth

from usher.contract.failures import RegistrationError
from usher.lms import conf
from usher.lms.accounts import lookup
from usher.lms.accounts.services import (
    Learner,
    differs,
    make_account,
    refuse_taken,
    update_account,
)
from usher.lms.api.tokens import mint_tokens
from usher.lms.connections.models import ConnectedApplication
from usher.lms.connections.services import protected
from usher.lms.errors import AccountRefused
from usher.lms.events import outbox
from usher.lms.provisioning.providers import current_record

log = logging.getLogger(__name__)
Item = dict[str, Any]

#: Rows must not stay locked for long.
ITEMS_A_TRANSACTION = 100


def bring_accounts(items: list[Item], application: ConnectedApplication, site: Site) -> list[Item]:
    """Make or update each item's account; the outcome of each, in order.

    Some at a time in one transaction; when the database objects to one of them, each of these in
    a transaction of its own: one bad item costs the others time and nothing else.
    """
    results: list[Item] = []
    for start in range(0, len(items), ITEMS_A_TRANSACTION):
        results += _bring_some(items[start : start + ITEMS_A_TRANSACTION], application, site)
    return results


def _bring_some(items: list[Item], application: ConnectedApplication, site: Site) -> list[Item]:
    batch = _Batch(items, application, site)
    try:
        with transaction.atomic(), outbox.gathering():
            results = [batch.bring(item) for item in items]
            batch.add_tokens(items, results)
            return results
    except IntegrityError:
        log.warning("%d accounts are made again, one by one.", len(items))
    return [_alone(item, application, site) for item in items]


def _alone(item: Item, application: ConnectedApplication, site: Site) -> Item:
    try:
        with transaction.atomic(), outbox.gathering():
            batch = _Batch([item], application, site)
            results = [batch.bring(item)]
            batch.add_tokens([item], results)
            return results[0]
    except IntegrityError:
        log.exception("An account can't be made or changed.")
        message = "The LMS's database refuses this account; its log says why."
        return _refused(item, AccountRefused(RegistrationError.VALIDATION, {"": message}))


class _Batch:
    """What is known about all items of a request before the first is touched."""

    def __init__(self, items: list[Item], application: ConnectedApplication, site: Site) -> None:
        self.application, self.site = application, site
        names = [item["username"] for item in items]
        profile = conf.platform().profile_model()
        links = UserSocialAuth.objects.filter(provider=application.backend, uid__in=names)
        users = {link.uid: link.user for link in links.select_related("user")}
        ids = [user.pk for user in users.values()]
        profiles = {row.user_id: row for row in profile.objects.filter(user_id__in=ids)}
        self.protected = protected(ids)
        for user in users.values():
            user.profile = profiles.get(user.pk) or profile(user=user)
        # Only uids that are equal to the letter: some databases find more.
        self.users = {name: users[name] for name in names if name in users}
        new = [item for item in items if item["username"] not in self.users]
        found = lookup.taken([i["username"] for i in new], [i["email"] for i in new])
        self.usernames, self.emails = set(found.usernames), set(found.emails)
        self.provider = current_record(site, application.backend)

    def bring(self, item: Item) -> Item:
        learner = _learner(item)
        user = self.users.get(learner.username)
        try:
            if user is not None:
                self._refuse_protected(user, learner, item)
                status = "updated" if update_account(user, learner) else "exists"
            else:
                user, status = self._create(learner), "created"
        except AccountRefused as refusal:
            return _refused(item, refusal)
        return {
            "id": item["id"],
            "status": status,
            "username": user.username,
            "lms_user_id": user.pk,
            "error": None,
            "tokens": None,
        }

    def _refuse_protected(self, user: Any, learner: Learner, item: Item) -> None:
        """Who has rights in the LMS is nobody's to change by a service worker, nor to act for."""
        if user.pk in self.protected and (item["tokens"] or differs(user, learner)):
            message = (
                f"{user.username} is staff of this LMS: the service worker may not change that "
                "account, nor have its tokens; change it in the LMS's admin"
            )
            raise AccountRefused(RegistrationError.PROTECTED_ACCOUNT, {"": message})

    def _create(self, learner: Learner) -> Any:
        refuse_taken(learner, lookup.Taken(frozenset(self.usernames), frozenset(self.emails)))
        user = make_account(learner, self.application.backend, self.site)
        if self.provider is not None and self.provider.enable_sso_id_verification:
            conf.platform().record_identity_verification(user, self.provider)
        self.usernames.add(learner.username.casefold())
        self.emails.add(learner.email.casefold())
        self.users[learner.username] = user
        return user

    def add_tokens(self, items: list[Item], results: list[Item]) -> None:
        asked = [
            (result, self.users[item["username"]])
            for item, result in zip(items, results, strict=True)
            if item["tokens"] and result["error"] is None
        ]
        tokens = mint_tokens([user for _, user in asked], self.application.oauth_client_id)
        for (result, _), token in zip(asked, tokens, strict=True):
            result["tokens"] = token


def _learner(item: Item) -> Learner:
    return Learner(
        username=item["username"],
        email=item["email"],
        name=item.get("name") or item["username"],
        country=item.get("country") or "",
        is_active=item["is_active"],
    )


def _refused(item: Item, refusal: AccountRefused) -> Item:
    return {
        "id": item["id"],
        "status": "refused",
        "username": item["username"],
        "lms_user_id": None,
        "error": {
            "code": refusal.code.value,
            "message": str(refusal),
            "suggestions": refusal.suggestions,
            "fields": refusal.fields,
        },
        "tokens": None,
    }
