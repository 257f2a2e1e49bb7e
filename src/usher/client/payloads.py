"""The LMS's answers as typed objects. Types, ranges, lengths and characters are checked.

Every ``read_…`` function raises BadAnswer for an unexpected shape, and BadValue for a value that
can't be stored in a database: a NUL character, half of a surrogate pair, a number out of range.
Text that is only displayed is cut to its column's length; identifiers that are too long are
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from usher.client.errors import BadAnswer, LmsError, Refused
from usher.client.outgoing import is_token
from usher.contract.failures import storable

T = TypeVar("T")
#: The most pages of one list that are read: a hundred times as many as the largest LMS has.
MAX_PAGES = 10_000
#: The range of the times that are returned. Each of them can be converted to any time zone.
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
_LATEST = datetime(9999, 12, 29, tzinfo=UTC)
#: The greatest numbers that a database's columns can store: an integer, and an id.
_HIGHEST_INTEGER, _HIGHEST_ID = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True)
class ObservedAccount:
    """An LMS account as the service worker sees it."""

    username: str
    email: str
    name: str
    country: str
    lms_user_id: int | None
    is_active: bool
    date_joined: datetime | None


@dataclass(frozen=True)
class ObservedLinks:
    """Which LMS account one learner of the application signs in to.

    application: the application's name in the LMS. leads_to: username and LMS id of the account to
    which the learner signs in; None if there is no link. exists: whether the LMS has an account
    with the learner's username. linked_from: usernames of the application's learners who sign in to
    the account with the learner's username.
    """

    application: str
    leads_to: tuple[str, int] | None
    exists: bool
    linked_from: tuple[str, ...]


def read_links(data: Any) -> ObservedLinks:
    """Reads an answer of ``/usher/api/v1/links/``."""

    def read() -> ObservedLinks:
        linked_account = None
        if leads_to := data["leads_to"]:
            username = identifier(leads_to["username"], "a username")
            user_id = number(leads_to["lms_user_id"], "a user id", highest=_HIGHEST_ID)
            linked_account = (username, user_id)
        # The account with the learner's username, which need not be the linked one.
        account = data["account"]
        learners = as_list(account["linked_from"]) if account else []
        return ObservedLinks(
            application=text(data["application"], max_length=255),
            leads_to=linked_account,
            exists=account is not None,
            linked_from=tuple(identifier(learner, "a username") for learner in learners),
        )

    return reading("links of a learner", read)


@dataclass(frozen=True)
class ObservedEnrollment:
    """One enrollment of a known learner and run."""

    mode: str
    is_active: bool


@dataclass(frozen=True)
class ListedEnrollment:
    """One enrollment from the LMS's list of enrollments."""

    username: str
    course_key: str
    mode: str
    is_active: bool


@dataclass(frozen=True)
class ObservedRun:
    """A course run from the course list."""

    course_key: str
    title: str
    org: str
    number: str
    short_description: str
    image_url: str
    pacing: str
    start: datetime | None
    end: datetime | None
    enrollment_start: datetime | None
    enrollment_end: datetime | None
    invitation_only: bool
    hidden: bool
    certificate_available: datetime | None = None


@dataclass(frozen=True)
class ObservedMode:
    """An enrollment mode of a course run. min_price: in whole units of ``currency``. expires_at:
    the time after which nobody can choose the mode, None for no end."""

    slug: str
    name: str
    min_price: int
    currency: str
    expires_at: datetime | None


@dataclass(frozen=True)
class RunPage:
    """One page of the course list. results: the LMS's objects, for ``read_run``. pages, count: the
    number of pages and runs in the whole list."""

    results: list[dict[str, Any]]
    pages: int
    count: int


@dataclass(frozen=True)
class ObservedGrade:
    """A learner's grade in one course run. percent: from 0 to 1. letter: the letter grade, or
    ''."""

    percent: float
    passed: bool
    letter: str


@dataclass(frozen=True)
class ObservedCertificate:
    """A learner's certificate for one course run. is_passing: None if the LMS doesn't say."""

    course_key: str
    status: str
    certificate_type: str
    is_passing: bool | None
    grade: str
    download_url: str
    issued_at: datetime | None


@dataclass(frozen=True)
class TokenPair:
    """A learner's tokens from the LMS. ``repr`` leaves them out."""

    access_token: str
    refresh_token: str
    scope: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"TokenPair(expires_at={self.expires_at:%Y-%m-%d %H:%M:%S})"


@dataclass(frozen=True)
class Registered:
    """A new account. lms_user_id: None if the LMS doesn't say. cookies: the learner's session, with
    which further requests are signed in."""

    username: str
    lms_user_id: int | None
    cookies: dict[str, str] = field(repr=False)


class BadValue(Refused):
    """A value in an answer can't be stored. Only the row that the value belongs to is refused."""

    default_code = "bad-value"

    def __init__(self, noun: str, value: Any) -> None:
        value_text = ascii(value) if isinstance(value, str | int | float) else type(value).__name__
        super().__init__(f"The LMS answered {noun} that can't be stored: {value_text[:80]}.")


def reading(noun: str, read: Callable[[], T]) -> T:
    """The result of ``read()``, a function that reads an answer. Exceptions that an unexpected
    shape causes become BadAnswer. noun: what is read, for the message."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise BadAnswer(
            f"The LMS answered {noun} in an unknown shape: {type(error).__name__}."
        ) from error


def moment(value: Any) -> datetime | None:
    """An ISO time as a datetime, in UTC if it names no time zone; None for an empty value. Times at
    the ends of the calendar, which stand for "always" and "never", are moved by a day or two, so
    that they can be converted to any time zone. Raises BadValue, or ValueError for another
    format."""
    if not value:
        return None
    if not isinstance(value, str):
        raise BadValue("a time", value)
    parsed = datetime.fromisoformat(value.replace("Z", "+00:00"))
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return min(max(parsed, _EARLIEST), _LATEST)


def text(value: Any, *, max_length: int, noun: str = "a text") -> str:
    """``value``, a text, a number or None, as text of at most ``max_length`` characters; the rest
    is cut off. Raises BadValue for a value of another type, and for NUL and half of a surrogate
    pair, which databases can't store. noun: the value, for the message."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise BadValue(noun, value)
    result = str(value if value is not None else "")
    if "\0" in result or not _is_unicode(result):
        raise BadValue(noun, result)
    return result[:max_length]


def _storable_text(value: Any, *, max_length: int) -> str:
    """As ``text``, with a question mark in place of each character that can't be stored."""
    return text(storable(value) if isinstance(value, str) else value, max_length=max_length)


def identifier(value: Any, noun: str, *, max_length: int = 255) -> str:
    """``value`` if it is a text of 1 to ``max_length`` characters. Raises BadValue. noun: the
    value, for the message."""
    if not isinstance(value, str) or not value or len(value) > max_length:
        raise BadValue(noun, value)
    return text(value, max_length=max_length, noun=noun)


def safe_link(value: Any, *, max_length: int) -> str:
    """An address that a page can link to safely; '' for an address with another scheme, such as
    ``javascript:``."""
    address = text(value, max_length=max_length, noun="an address")
    return address if address.lower().startswith(("http://", "https://", "/")) else ""


def number(value: Any, noun: str, *, highest: int = _HIGHEST_INTEGER) -> int:
    """``value``, a number or its digits, as a whole number from 0 to ``highest``; a fraction is cut
    off. Raises BadValue for a number out of this range and for true or false, and ValueError,
    TypeError or OverflowError for anything else. noun: the value, for the message."""
    if isinstance(value, bool) or not 0 <= int(value) <= highest:
        raise BadValue(noun, value)
    return int(value)


def flag(value: Any, noun: str) -> bool:
    """``value`` if it is JSON's true or false. Raises BadValue for anything else. noun: the
    value, for the message."""
    if not isinstance(value, bool):
        raise BadValue(noun, value)
    return value


def user_id(value: Any) -> int | None:
    """The LMS's id of a user; None if there is none. Raises BadValue."""
    try:
        return None if value is None else number(value, "a user id", highest=_HIGHEST_ID)
    except (ValueError, TypeError) as error:
        raise BadValue("a user id", value) from error


def _share(value: Any) -> float:
    """A grade as a fraction. Extra credit and rounding may make it greater than 1."""
    share = float(value)
    if not -0.01 <= share <= 10:  # NaN fails this comparison too
        raise BadValue("a grade", value)
    return share


def _secret(value: Any) -> str:
    """A token. It is not shown in the message of BadValue."""
    if not isinstance(value, str) or len(value) > 4096 or not is_token(value):
        raise BadValue("a token", "(not shown)")
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_list(data: Any) -> list[Any]:
    """``data`` if it is a list. Raises TypeError for anything else, also for an empty object."""
    if not isinstance(data, list):
        raise TypeError("not a list")
    return data


def read_username(data: Any) -> str:
    """The username of an account, and nothing else of it."""
    return reading("an account", lambda: identifier(data["username"], "a username"))


def read_account(data: Any) -> ObservedAccount:
    return reading(
        "an account",
        lambda: ObservedAccount(
            username=read_username(data),
            email=text(data.get("email"), max_length=254),
            # Only compared and shown, so characters that can't be stored are replaced: otherwise
            # such a name would hide the differences of all learners in the same answer.
            name=_storable_text(data.get("name"), max_length=255),
            country=_storable_text(data.get("country"), max_length=2),
            lms_user_id=user_id(data.get("id")),
            is_active=flag(data.get("is_active", True), "whether an account is active"),
            date_joined=moment(data.get("date_joined")),
        ),
    )


def read_enrollment(data: Any) -> ObservedEnrollment:
    return reading(
        "an enrollment",
        lambda: ObservedEnrollment(
            mode=identifier(data["mode"], "a mode", max_length=100),
            is_active=_is_enrolled(data),
        ),
    )


def require_same(noun: str, requested: str, answered: Any) -> None:
    """Raises BadAnswer if an answer is about another learner or course run than the request, for
    example because a proxy mixed up two answers. answered: None if the answer does not say. noun:
    what was requested, for the message."""
    if answered is not None and str(answered).casefold() != requested.casefold():
        raise BadAnswer(
            f"The LMS answered about another {noun} than {requested}: {ascii(answered)[:80]}."
        )


def _is_enrolled(data: Any) -> bool:
    return flag(data["is_active"], "whether a learner is enrolled")


def read_enrollments(
    data: Any, on_malformed: Callable[[LmsError], None] | None = None
) -> list[ListedEnrollment]:
    """The enrollments of one page of the list. on_malformed: called for each malformed enrollment,
    which is left out; without it, a malformed enrollment raises its error."""
    enrollments = []
    for item in reading("enrollments", lambda: as_list(data["results"])):
        try:
            enrollments.append(_listed_enrollment(item))
        except LmsError as error:
            if on_malformed is None:
                raise
            on_malformed(error)
    return enrollments


def _listed_enrollment(item: Any) -> ListedEnrollment:
    return reading(
        "an enrollment",
        lambda: ListedEnrollment(
            username=identifier(item["user"], "a username"),
            course_key=identifier(item["course_id"], "a course key"),
            mode=identifier(item["mode"], "a mode", max_length=100),
            is_active=_is_enrolled(item),
        ),
    )


def read_page(data: Any) -> RunPage:
    def read() -> RunPage:
        pagination = data["pagination"]
        results = as_list(data["results"])
        pages = number(pagination["num_pages"], "a number of pages")
        if pages > MAX_PAGES or not all(isinstance(result, dict) for result in results):
            raise ValueError("too many pages, or results that are not objects")
        return RunPage(results, pages, number(pagination["count"], "a number of runs"))

    return reading("the course list", read)


def read_run(data: Any) -> ObservedRun:
    def read() -> ObservedRun:
        image = (data.get("media") or {}).get("image") or {}
        return ObservedRun(
            course_key=identifier(data["course_id"], "a course key"),
            title=text(data["name"], max_length=255, noun="a title"),
            org=text(data.get("org"), max_length=255),
            number=text(data.get("number"), max_length=255),
            short_description=text(data.get("short_description"), max_length=100_000),
            image_url=safe_link(image.get("large") or image.get("raw"), max_length=1000),
            pacing=text(data.get("pacing"), max_length=16),
            start=moment(data.get("start")),
            end=moment(data.get("end")),
            enrollment_start=moment(data.get("enrollment_start")),
            enrollment_end=moment(data.get("enrollment_end")),
            invitation_only=bool(data.get("invitation_only")),
            hidden=bool(data.get("hidden")),
            certificate_available=moment(data.get("certificate_available_date")),
        )

    return reading("a course run", read)


def read_modes(data: Any, course_key: str) -> list[ObservedMode]:
    """The modes of that run."""

    def read() -> list[ObservedMode]:
        for mode in as_list(data):
            require_same("course run", course_key, mode.get("course_id"))
        return [
            ObservedMode(
                slug=identifier(mode["mode_slug"], "a mode", max_length=100),
                name=text(mode.get("mode_display_name"), max_length=255),
                min_price=number(mode.get("min_price") or 0, "a price"),
                currency=text(mode.get("currency") or "usd", max_length=8),
                expires_at=moment(mode.get("expiration_datetime")),
            )
            for mode in data
        ]

    return reading("course modes", read)


def read_grade(data: Any, username: str, course_key: str) -> ObservedGrade | None:
    """The learner's grade in that run, from a list with one grade; None for an empty list."""

    def read() -> ObservedGrade | None:
        if not as_list(data):
            return None
        (item,) = data
        require_same("learner", username, item.get("username"))
        require_same("course run", course_key, item.get("course_id"))
        return _grade(item)

    return reading("a grade", read)


def read_grades(data: Any) -> list[tuple[str, ObservedGrade]]:
    return reading(
        "grades of a run",
        lambda: [
            (identifier(item["username"], "a username"), _grade(item))
            for item in as_list(data["results"])
        ],
    )


def _grade(item: Any) -> ObservedGrade:
    return ObservedGrade(
        percent=_share(item["percent"]),
        passed=flag(item["passed"], "whether a learner passed"),
        letter=text(item.get("letter_grade"), max_length=32),
    )


def read_certificates(data: Any, username: str) -> list[ObservedCertificate]:
    """That learner's certificates."""

    def read() -> list[ObservedCertificate]:
        for item in as_list(data):
            require_same("learner", username, item.get("username"))
        return [
            ObservedCertificate(
                course_key=identifier(item["course_id"], "a course key"),
                status=text(item.get("status"), max_length=32),
                certificate_type=text(
                    item.get("certificate_type") or item.get("type"), max_length=64
                ),
                is_passing=_is_passing(item),
                grade=text(item.get("grade"), max_length=16),
                download_url=safe_link(item.get("download_url"), max_length=1000),
                issued_at=moment(item.get("created_date") or item.get("created")),
            )
            for item in data
        ]

    return reading("certificates", read)


def _is_passing(certificate: dict[str, Any]) -> bool | None:
    value = certificate.get("is_passing")
    return None if value is None else flag(value, "whether a learner passed")


def read_tokens(data: Any, now: datetime) -> TokenPair:
    return reading(
        "tokens",
        lambda: TokenPair(
            access_token=_secret(data["access_token"]),
            refresh_token=_secret(data.get("refresh_token") or ""),
            scope=text(data.get("scope"), max_length=200),
            expires_at=now + timedelta(seconds=number(data["expires_in"], "a token's lifetime")),
        ),
    )
