"""Chooses and reserves usernames that the LMS accepts and that no learner has ever had."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Lower

from usher.application.accounts.models import LmsAccount, UsernameReservation
from usher.application.accounts.transliteration import in_latin_letters
from usher.application.adapter import private_username
from usher.contract.limits import (
    FULL_NAME_MAX_LENGTH,
    USERNAME_MAX_LENGTH,
    USERNAME_MIN_LENGTH,
)

_DISALLOWED_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+")
_REPEATED_SEPARATORS = re.compile(r"[_-]{2,}")
#: Put before a name that is too short, and in place of an empty one.
_FALLBACK = "learner"
#: Parts of a full name that the LMS refuses: ``validate_name`` in the platform's
#: registration_form.py.
_MARKUP = re.compile(r"[<>]")
_URL = re.compile(r"\w*://\S*")
#: ``candidates`` tries a name with each of so many numbers, then with so many random numbers below
#: the limit.
_NUMBERED_TRIES = 30
_RANDOM_TRIES = 20
_RANDOM_NUMBER_LIMIT = 10**9


class NoFreeName(Exception):
    """Every name that was tried is taken."""


def clean_username(wanted: str) -> str:
    """A name like ``wanted`` that the LMS accepts: 2 to 30 of A-Z, a-z, 0-9, ``_`` and ``-``.

    >>> clean_username("Łukasz O'Hara")
    'Lukasz_O_Hara'
    """
    plain = in_latin_letters(wanted)
    plain = _REPEATED_SEPARATORS.sub("_", _DISALLOWED_CHARACTERS.sub("_", plain))
    plain = plain[:USERNAME_MAX_LENGTH].strip("_-")
    return plain if len(plain) >= USERNAME_MIN_LENGTH else f"{_FALLBACK}{plain}"


def clean_full_name(wanted: str, fallback: str) -> str:
    """``wanted`` without the parts that the LMS refuses; ``fallback`` when nothing is left.

    Removes ``<``, ``>``, URLs, spaces at the ends, and what databases cannot store: control
    characters and halves of surrogate pairs. Cuts the name to the LMS's maximum length.

    >>> clean_full_name("J.R.R. Tolkien", "tolkien")
    'J.R.R. Tolkien'
    """
    text = "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in wanted)
    text = _MARKUP.sub(" ", _URL.sub(" ", text))
    if text != wanted:
        text = " ".join(text.split())
    return text.strip()[:FULL_NAME_MAX_LENGTH].strip() or fallback


def candidates(wanted: str, suggestions: Iterable[str] = ()) -> Iterator[str]:
    """Names to try, best first: the LMS's suggestions, the name itself, the name with a number. If
    the LMS accepts no letter or digit of ``wanted``, the name is a random one."""
    for suggestion in suggestions:
        if clean_username(suggestion) == suggestion:
            yield suggestion
    name = clean_username(wanted)
    if name == _FALLBACK and wanted != _FALLBACK:
        name = private_username()
    yield name
    for number in range(1, _NUMBERED_TRIES + 1):
        # The numbers grow ever faster, so a popular name does not need thousands of tries.
        yield _with_number(name, number if number <= 10 else number**4)
    for _ in range(_RANDOM_TRIES):
        yield _with_number(name, secrets.randbelow(_RANDOM_NUMBER_LIMIT))


def _with_number(name: str, number: int) -> str:
    """The name with the number at its end; cuts the name if both together would be too long."""
    suffix = f"_{number}"
    return name[: USERNAME_MAX_LENGTH - len(suffix)] + suffix


def reserve(
    user: Any, wanted: str, suggestions: Iterable[str] = (), *, reuse_own: bool = False
) -> str:
    """Reserves an unused username for the learner and returns it. No other learner ever gets it.

    wanted, suggestions: see ``candidates``. reuse_own: also accepts a name that was reserved for
    this learner before. Raises NoFreeName.
    """
    for name in candidates(wanted, suggestions):
        try:
            with transaction.atomic():
                UsernameReservation.objects.create(username=name, user=user)
        except IntegrityError:
            own_rows = UsernameReservation.objects.filter(username__iexact=name, user=user)
            if not (reuse_own and own_rows.exists()):
                continue
        return name
    raise NoFreeName(f"No username like {wanted!r} is free.")


def reserve_many(wanted: Mapping[int, str]) -> dict[int, str]:
    """Reserves the names that are valid and free, and leaves out the others. Returns learner's id →
    reserved username.

    wanted: learner's id → name. Raises IntegrityError if a name is taken in the meantime.
    """
    clean = {pk: name for pk, name in wanted.items() if clean_username(name) == name}
    reservations = UsernameReservation.objects.annotate(lowered=Lower("username"))
    taken = reservations.filter(lowered__in={name.lower() for name in clean.values()})
    used_names = set(taken.values_list("lowered", flat=True))
    reserved: dict[int, str] = {}
    for pk, name in clean.items():
        if name.lower() not in used_names:
            used_names.add(name.lower())
            reserved[pk] = name
    UsernameReservation.objects.bulk_create(
        [UsernameReservation(username=name, user_id=pk) for pk, name in reserved.items()]
    )
    return reserved


def is_reserved(username: str, *, ignored_owner: Any = None) -> bool:
    """Whether any learner has or had that name, ignoring case. ignored_owner: a user whose own
    reservations do not count."""
    rows = UsernameReservation.objects.filter(username__iexact=username)
    if ignored_owner is not None and ignored_owner.pk is not None:
        rows = rows.exclude(user=ignored_owner)
    return rows.exists()


def why_not_linkable(username: str, user: Any) -> str:
    """Why the LMS account with that username can't be linked to ``user``: whose username it is or
    was. '' if it can be linked.

    Another learner's reservation does not count if that learner's LMS account exists under another
    username: that learner never got this username, because the LMS already had an account with it.
    """
    reservation = _find_reservation_of_another(username, user)
    return _why_not_transferable(reservation) if reservation is not None else ""


def _why_not_transferable(reservation: UsernameReservation) -> str:
    """Why the reservation can't be transferred to another learner; '' if it can."""
    if reservation.user is None:
        return "this LMS username belonged to a learner who was deleted here"
    account = LmsAccount.objects.filter(user=reservation.user).first()
    if account is None or account.username.lower() == reservation.username.lower():
        return f"this LMS username belongs to another learner, {reservation.user}"
    if not account.is_ready:
        return (
            f"this LMS username is reserved for another learner, {reservation.user}, who has no "
            "LMS account yet"
        )
    return ""


def reserve_for_link(username: str, user: Any) -> None:
    """Reserves the name of an existing LMS account for the learner to whom it is linked. Must be
    called in a transaction. Raises ValueError, with the text of ``why_not_linkable``, if the name
    can't be given."""
    reservation = _find_reservation_of_another(username, user)
    if reservation is not None:
        if reason := _why_not_transferable(reservation):
            raise ValueError(reason)
        # Only if it still belongs to that learner.
        rows = UsernameReservation.objects.filter(pk=reservation.pk, user=reservation.user)
        rows.update(user=user, username=username)
    elif not user.username_reservations.filter(username__iexact=username).exists():
        UsernameReservation.objects.create(username=username, user=user)


def _find_reservation_of_another(username: str, user: Any) -> UsernameReservation | None:
    rows = UsernameReservation.objects.filter(username__iexact=username).exclude(user=user)
    return rows.select_related("user").first()
