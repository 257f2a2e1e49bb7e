"""Decisions that a project may want to make itself: ``USHER_ADAPTER``.

Subclass ``DefaultAdapter``, override what differs, and name the class in the settings:

    USHER_ADAPTER = "shop.openedx.Adapter"

Methods are called wherever the decision is needed: in requests, commands and workers. They must not
call the LMS. ``usher.application.adapter.adapter()`` returns the one instance in use. If a method
about a learner raises an exception, or returns a value of a wrong type, the method's caller gets
AdapterFailed.
"""

from __future__ import annotations

import inspect
import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, wraps
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import mail_managers
from django.core.signals import setting_changed
from django.db import InterfaceError, OperationalError
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Lower
from django.utils.module_loading import import_string

from usher.application.user_model import active
from usher.engine.errors import EngineError

_log = logging.getLogger("usher.adapter")
DEFAULT = "usher.application.adapter.DefaultAdapter"
#: What happens next to refused records: a text for pages and mails.
REFUSED_NEXT = (
    "Refused records are sent again when somebody removes the cause and retries them; enrollments "
    "also when their course run changes in the LMS."
)
#: The characters of random usernames. Without 0, 1, l and o, because people confuse these.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_PRIVATE_LENGTH = 10
#: Methods that decide about one learner, and the types that they must return.
_RETURN_TYPES: dict[str, type] = {
    "lms_username": str,
    "full_name": str,
    "email": str,
    "country": str,
    "is_confirmed": bool,
    "is_eligible": bool,
    "allowed_modes": Collection,
}
#: Methods that take and return a queryset of users.
_METHODS_FOR_QUERYSETS = ("confirmed", "eligible")
#: Seconds between two mails about refusals.
_SECONDS_BETWEEN_MAILS = 900
#: The most refused records that one mail lists.
_MAX_RECORDS_IN_MAIL = 20


class AdapterFailed(EngineError):
    """A method of ``USHER_ADAPTER`` failed. A method about one learner fails for this learner only,
    a method about many learners for all of them. Records that need the method's answer are tried
    again later; other records are not affected.

    user: None for a method about many learners. reason: the method and its exception, without the
    learner.
    """

    default_code = "adapter-failed"

    def __init__(self, method: str, user: Any, problem: str) -> None:
        self.reason = f"{method} of USHER_ADAPTER failed: {problem}"
        whom = "" if user is None else f" for the user {user.pk}"
        super().__init__(f"{method} of USHER_ADAPTER failed{whom}: {problem}.")


@dataclass(frozen=True)
class Refusal:
    """A record that the LMS refuses. The record is sent again when a person retries it; an
    enrollment is also sent again when its course run changes in the LMS.

    kind: ``account``, ``enrollment`` …; what: names the learner, the run or both, for people;
    code and message: the LMS's reason; row: the record, as it was when it was refused;
    request_id: the ``X-Request-ID`` of the request to the LMS, '' for none.
    """

    kind: str
    what: str
    code: str
    message: str
    row: Any
    request_id: str = ""


class DefaultAdapter:
    """The decisions that Usher makes by default."""

    # A learner's name and addresses

    def lms_username(self, user: Any) -> str:
        """The username to create in the LMS. Everybody in a course can see it.

        Usher removes characters that the LMS rejects, makes the username unique and reserves it; it
        never changes afterwards. If no characters are left, the learner gets a random username. By
        default, this is the user's own username, or, if people sign in by e-mail, a random one such
        as ``learner_k3m9x2p7qa``.
        """
        name = str(user.get_username() or "")
        is_private = not name or "@" in name or user.get_email_field_name() == user.USERNAME_FIELD
        return private_username() if is_private else name

    def full_name(self, user: Any) -> str:
        """The name on certificates; '' if it is not known; never an e-mail address."""
        name = str(getattr(user, "name", "") or "")
        if not name and hasattr(user, "get_full_name"):
            name = str(user.get_full_name() or "")
        return "" if "@" in name else name.strip()

    def email(self, user: Any) -> str:
        """The address of the LMS account."""
        return str(getattr(user, user.get_email_field_name(), "") or "")

    def country(self, user: Any) -> str:
        """The ISO 3166-1 alpha-2 code, such as ``DE``; '' if it is not known. The LMS gets no
        country if the code has another length."""
        return str(getattr(user, "country", "") or "").strip().upper()

    # Who gets an LMS account

    def is_confirmed(self, user: Any) -> bool:
        """Whether the e-mail address is known to be the learner's own."""
        users = user._meta.default_manager.filter(pk=user.pk)
        if self._decides_one_by_one("confirmed"):
            # An override called ``super()``, and ``confirmed`` would call the override again.
            return _with_confirmed_address(users).exists()
        return self.confirmed(users).exists()

    def confirmed(self, users: QuerySet[Any]) -> QuerySet[Any]:
        """Those of ``users`` whose e-mail address is known to be their own. users: at most a
        thousand.

        If allauth is installed and confirms addresses, its records decide. Users without such a
        record count as confirmed: staff or a command created them. If a project overrides only
        ``is_confirmed``, that method is called for each user.
        """
        if self._decides_one_by_one("confirmed"):
            return self._filter_one_by_one("confirmed", users)
        return _with_confirmed_address(users)

    def is_eligible(self, user: Any) -> bool:
        """Whether the learner may have an LMS account: active and confirmed by default."""
        if self._decides_in_bulk("eligible"):
            return self.eligible(user._meta.default_manager.filter(pk=user.pk)).exists()
        return bool(user.is_active) and self.is_confirmed(user)

    def eligible(self, users: QuerySet[Any]) -> QuerySet[Any]:
        """Those of ``users`` who may have an LMS account. users: at most a thousand.

        Runs one query. If a project overrides only ``is_eligible``, that method is called for each
        user.
        """
        if self._decides_one_by_one("eligible"):
            return self._filter_one_by_one("eligible", users)
        return self.confirmed(active(users))

    def _decides_one_by_one(self, name: str) -> bool:
        """Whether the project overrides only ``is_<name>``, which decides about one learner."""
        return self.overrides(f"is_{name}") and not self.overrides(name)

    def _decides_in_bulk(self, name: str) -> bool:
        """Whether the project overrides only ``<name>``, which decides about many learners."""
        return self.overrides(name) and not self.overrides(f"is_{name}")

    def overrides(self, method: str) -> bool:
        """Whether the project's adapter overrides this method."""
        return getattr(type(self), method) is not getattr(DefaultAdapter, method)

    def _filter_one_by_one(self, name: str, users: QuerySet[Any]) -> QuerySet[Any]:
        """Those of ``users`` for whom ``is_<name>`` is true. Leaves out, and logs, users for whom
        the method fails."""
        keys = []
        for user in users:
            try:
                if getattr(self, f"is_{name}")(user):
                    keys.append(user.pk)
            except AdapterFailed as error:
                log_failure(error)
        return users.filter(pk__in=keys)

    # Enrollments

    def allowed_modes(self, user: Any, run: Any) -> Collection[str] | None:
        """The modes that the learner may have in the run; None leaves the decision to the LMS.

        By default the modes that the run is known to have.
        """
        return [mode.slug for mode in run.modes.all()] or None

    # Refusals

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """Called after the LMS has refused records. By default sends a mail to ``MANAGERS``.

        Sends at most one mail in fifteen minutes, and none if the console sends its digest.
        """
        if digest_minutes() and apps.is_installed("usher.console"):
            return
        if not django_settings.MANAGERS:
            return
        # ``add`` stores nothing, and returns False, while the key of the last mail has not expired.
        if not cache.add("usher-refusals-mailed", True, timeout=_SECONDS_BETWEEN_MAILS):
            return
        subject, text = self.refusal_mail(refusals)
        mail_managers(subject, text, fail_silently=True)

    def refusal_mail(self, refusals: Sequence[Refusal]) -> tuple[str, str]:
        """Subject and text of the mail to ``MANAGERS``."""
        lines = [
            f"- {refusal.kind} {refusal.what}: {refusal.message} [{refusal.code}]"
            for refusal in refusals
        ]
        lines_of_mail = lines[:_MAX_RECORDS_IN_MAIL]
        if omitted := len(lines) - len(lines_of_mail):
            lines_of_mail.append(f"… and {omitted} more.")
        text = "Open edX refused:\n\n" + "\n".join(lines_of_mail)
        text += f"\n\n{REFUSED_NEXT} Choose “Retry in background” in the admin.\n"
        return f"Open edX refused {len(lines)} of our records", text


#: Methods that a project may override.
_METHODS = {name for name in vars(DefaultAdapter) if not name.startswith("_")} - {"overrides"}


def eligible_among(users: QuerySet[Any], *, slice_size: int = 1000) -> Iterator[list[Any]]:
    """Those of ``users`` who may have an LMS account, ordered by primary key, in lists of at most
    ``slice_size``. Only one list is in memory at a time."""
    last_pk: Any = None
    ordered = users.order_by("pk")
    while True:
        later = ordered if last_pk is None else ordered.filter(pk__gt=last_pk)
        keys = list(later.values_list("pk", flat=True)[:slice_size])
        if not keys:
            return
        last_pk = keys[-1]
        users_of_slice = users.model._default_manager.filter(pk__in=keys)
        if eligible_users := list(adapter().eligible(users_of_slice).order_by("pk")):
            yield eligible_users


def log_failure(error: AdapterFailed) -> None:
    """Logs the failure with the traceback of the project's own code, for callers that continue with
    other learners."""
    _log.error("%s", error.message, exc_info=error.__cause__)


def find_adapter_failure(user: Any) -> AdapterFailed | None:
    """Calls the adapter's methods that an LMS account needs for this learner. Returns the first
    failure; None if all succeed. Does not reserve the username."""
    project_adapter = adapter()
    for method in (
        project_adapter.is_confirmed,
        project_adapter.is_eligible,
        project_adapter.lms_username,
        project_adapter.full_name,
        project_adapter.email,
        project_adapter.country,
    ):
        try:
            method(user)
        except AdapterFailed as error:
            return error
    return None


def digest_minutes() -> int:
    """``USHER_DIGEST_MINUTES``: minutes between two digests of refusals; 0 for none."""
    default = 0 if django_settings.DEBUG else 60
    return int(getattr(django_settings, "USHER_DIGEST_MINUTES", default))


def private_username() -> str:
    """A username that says nothing about its owner: ``learner_`` and ten random characters."""
    return "learner_" + "".join(secrets.choice(_ALPHABET) for _ in range(_PRIVATE_LENGTH))


def _with_confirmed_address(users: QuerySet[Any]) -> QuerySet[Any]:
    """The default of ``confirmed``, by the records of django-allauth."""
    if not _allauth_confirms():
        return users
    from allauth.account.models import EmailAddress

    email = users.model.get_email_field_name()
    records = EmailAddress.objects.filter(user_id=OuterRef("pk"))
    confirmed = records.annotate(lowered=Lower("email")).filter(
        verified=True, lowered=Lower(OuterRef(email))
    )
    return users.filter(Exists(confirmed) | ~Exists(records))


def _allauth_confirms() -> bool:
    if not apps.is_installed("allauth.account"):
        return False
    return str(getattr(django_settings, "ACCOUNT_EMAIL_VERIFICATION", "optional")) != "none"


def adapter() -> DefaultAdapter:
    """The project's adapter. Raises ImproperlyConfigured when it can't be used."""
    return _adapter(str(getattr(django_settings, "USHER_ADAPTER", "") or DEFAULT))


@lru_cache(maxsize=1)
def _adapter(path: str) -> DefaultAdapter:
    """The one instance of the class at ``path``; its methods check their answers."""
    try:
        adapter_class = import_string(path)
    except Exception as error:  # whatever the project's module raises
        raise ImproperlyConfigured(
            f"USHER_ADAPTER is {path!r}, which can't be imported: {_text_of(error)}."
        ) from error
    if not isinstance(adapter_class, type) or not issubclass(adapter_class, DefaultAdapter):
        raise ImproperlyConfigured(
            f"USHER_ADAPTER is {path!r}: name a subclass of {DEFAULT}, so that it has every method."
        )
    try:
        instance = adapter_class()
    except Exception as error:
        raise ImproperlyConfigured(
            f"USHER_ADAPTER is {path!r}, and calling it without arguments fails: {_text_of(error)}."
        ) from error
    for name, expected in _RETURN_TYPES.items():
        setattr(instance, name, _checked_method(name, getattr(instance, name), expected))
    for name in _METHODS_FOR_QUERYSETS:
        setattr(instance, name, _checked_queryset_method(name, getattr(instance, name)))
    return instance


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")


def problems_of_methods(adapter_class: type[DefaultAdapter]) -> Iterator[str]:
    """A sentence for each method of the project's class that can't be called as Usher calls it.
    Calls none of them."""
    for name in sorted(_names_defined_in(adapter_class) & _METHODS):
        if problem := _why_not_callable(adapter_class, name):
            yield f"{name} of {adapter_class.__name__} {problem}"


def misspelt_methods(adapter_class: type[DefaultAdapter]) -> Iterator[tuple[str, str]]:
    """Methods of the project's class with misspelt names, which Usher does not call. Yields pairs:
    the name, and the most similar name of a method that Usher calls."""
    for name in sorted(_names_defined_in(adapter_class) - _METHODS):
        if not name.startswith("_"):
            for similar in get_close_matches(name, sorted(_METHODS), n=1, cutoff=0.8):
                yield name, similar


def _names_defined_in(adapter_class: type[DefaultAdapter]) -> set[str]:
    """The names that the project's class and its bases define, up to ``DefaultAdapter``."""
    return {
        name
        for base in adapter_class.__mro__[: adapter_class.__mro__.index(DefaultAdapter)]
        for name in vars(base)
    }


def _why_not_callable(adapter_class: type[DefaultAdapter], name: str) -> str:
    """Why Usher can't call this method; '' if it can."""
    method, arguments = getattr(adapter_class, name), _arguments(name)
    if not callable(method):
        return f"is {method!r:.80}, not a method: write def {name}({', '.join(arguments)})."
    if inspect.iscoroutinefunction(method):
        return "is asynchronous, and Usher does not await it: write def without async."
    if isinstance(inspect.getattr_static(adapter_class, name), staticmethod | classmethod):
        arguments = arguments[1:]  # without self
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError:
        parameters = ", ".join(inspect.signature(method).parameters)
        return f"takes ({parameters}): write def {name}({', '.join(_arguments(name))})."
    return ""


def _arguments(name: str) -> list[str]:
    return list(inspect.signature(getattr(DefaultAdapter, name)).parameters)


def _checked_method(name: str, method: Callable[..., Any], expected: type) -> Callable[..., Any]:
    """Wraps a method about one learner: its exceptions, and answers of a wrong type, become an
    AdapterFailed that names the method and the learner.

    expected: the type of the answers. None also counts as '' where a text is expected, and every
    value as True or False where a bool is expected.
    """

    @wraps(method)
    def checked(user: Any, *args: Any) -> Any:
        answer = _call(method, user, *args, name=name, learner=user)
        if expected is str and answer is None:
            return ""
        if expected is bool:
            return bool(answer)
        if name == "allowed_modes" and answer is None:
            return None
        if not isinstance(answer, expected) or (expected is Collection and not _are_texts(answer)):
            raise AdapterFailed(name, user, _describe_answer(answer))
        return answer

    return checked


def _checked_queryset_method(name: str, method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Like ``_checked_method``, for a method that takes and returns a queryset of users."""

    @wraps(method)
    def checked(users: Any) -> Any:
        answer = _call(method, users, name=name, learner=None)
        if not isinstance(answer, QuerySet):
            raise AdapterFailed(name, None, f"{_describe_answer(answer)}, not a queryset")
        return answer

    return checked


def _call(method: Callable[..., Any], *args: Any, name: str, learner: Any) -> Any:
    """Calls the method. name, learner: for the error if the method fails; learner: None for a
    method about many learners."""
    try:
        return method(*args)
    except (AdapterFailed, OperationalError, InterfaceError):
        raise  # the database's errors have nothing to do with the learner
    except Exception as error:
        raise AdapterFailed(name, learner, f"{type(error).__name__}: {error}") from error


def _are_texts(modes: Any) -> bool:
    return not isinstance(modes, str) and all(isinstance(mode, str) for mode in modes)


def _describe_answer(answer: Any) -> str:
    return f"it returned {type(answer).__name__} {answer!r:.200}"


def _forget_adapter(**_kwargs: Any) -> None:
    _adapter.cache_clear()


setting_changed.connect(_forget_adapter, dispatch_uid="usher.application.adapter")
