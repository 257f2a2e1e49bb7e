"""What the LMS answers, typed. Every ``read_…`` raises BadAnswer for another shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from usher.client.errors import BadAnswer

T = TypeVar("T")


@dataclass(frozen=True)
class AccountSeen:
    """An LMS account as the service worker sees it."""

    username: str
    email: str
    name: str
    country: str
    lms_user_id: int | None
    is_active: bool
    date_joined: datetime | None


@dataclass(frozen=True)
class EnrollmentSeen:
    mode: str
    is_active: bool


@dataclass(frozen=True)
class ListedEnrollment:
    username: str
    course_key: str
    mode: str
    is_active: bool


@dataclass(frozen=True)
class RunSeen:
    """A course run of the course list; ``raw`` is the LMS's own object."""

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


@dataclass(frozen=True)
class ModeSeen:
    slug: str
    name: str
    min_price: int
    currency: str
    expires_at: datetime | None


@dataclass(frozen=True)
class RunPage:
    """``results``: the LMS's objects, unread; ``pages`` and ``count`` are totals."""

    results: list[dict[str, Any]]
    pages: int
    count: int


@dataclass(frozen=True)
class GradeSeen:
    """``percent`` from 0 to 1."""

    percent: float
    passed: bool
    letter: str


@dataclass(frozen=True)
class CertificateSeen:
    course_key: str
    status: str
    certificate_type: str
    is_passing: bool | None
    grade: str
    download_url: str
    issued_at: datetime | None


@dataclass(frozen=True)
class TokenPair:
    """What the LMS's token endpoint gives; never shown in reports, see ``__repr__``."""

    access_token: str
    refresh_token: str
    scope: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"TokenPair(expires_at={self.expires_at:%Y-%m-%d %H:%M:%S})"


@dataclass(frozen=True)
class Registered:
    """``cookies``: the session of the new learner, with which the next requests are signed in."""

    username: str
    lms_user_id: int | None
    cookies: dict[str, str]


def reading(what: str, read: Callable[[], T]) -> T:
    """``read()``, with everything that a wrong shape makes it raise turned into BadAnswer."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadAnswer(
            f"The LMS answered {what} in a shape that is not known: {type(error).__name__}."
        ) from error


def moment(value: Any) -> datetime | None:
    """An ISO moment of the LMS, with its time zone."""
    if not value:
        return None
    found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read_account(data: Any) -> AccountSeen:
    return reading(
        "an account",
        lambda: AccountSeen(
            username=str(data["username"]),
            email=str(data.get("email") or ""),
            name=str(data.get("name") or ""),
            country=str(data.get("country") or ""),
            lms_user_id=data.get("id"),
            is_active=bool(data.get("is_active", True)),
            date_joined=moment(data.get("date_joined")),
        ),
    )


def read_enrollment(data: Any) -> EnrollmentSeen:
    return reading(
        "an enrollment", lambda: EnrollmentSeen(str(data["mode"]), bool(data["is_active"]))
    )


def read_enrollments(data: Any) -> list[ListedEnrollment]:
    return reading(
        "enrollments",
        lambda: [
            ListedEnrollment(
                str(item["user"]),
                str(item["course_id"]),
                str(item["mode"]),
                bool(item["is_active"]),
            )
            for item in data["results"]
        ],
    )


def read_page(data: Any) -> RunPage:
    def read() -> RunPage:
        pagination = data["pagination"]
        results = data["results"]
        if not isinstance(results, list):
            raise TypeError
        return RunPage(results, int(pagination["num_pages"]), int(pagination["count"]))

    return reading("the course list", read)


def read_run(data: Any) -> RunSeen:
    def read() -> RunSeen:
        image = (data.get("media") or {}).get("image") or {}
        return RunSeen(
            course_key=str(data["course_id"]),
            title=str(data["name"] or "")[:255],
            org=str(data.get("org") or "")[:255],
            number=str(data.get("number") or "")[:255],
            short_description=str(data.get("short_description") or ""),
            image_url=str(image.get("large") or image.get("raw") or "")[:1000],
            pacing=str(data.get("pacing") or "")[:16],
            start=moment(data.get("start")),
            end=moment(data.get("end")),
            enrollment_start=moment(data.get("enrollment_start")),
            enrollment_end=moment(data.get("enrollment_end")),
            invitation_only=bool(data.get("invitation_only")),
            hidden=bool(data.get("hidden")),
        )

    return reading("a course run", read)


def read_modes(data: Any) -> list[ModeSeen]:
    return reading(
        "course modes",
        lambda: [
            ModeSeen(
                slug=str(mode["mode_slug"])[:100],
                name=str(mode.get("mode_display_name") or "")[:255],
                min_price=int(mode.get("min_price") or 0),
                currency=str(mode.get("currency") or "usd")[:8],
                expires_at=moment(mode.get("expiration_datetime")),
            )
            for mode in data
        ],
    )


def read_grade(data: Any) -> GradeSeen | None:
    return reading(
        "a grade",
        lambda: (
            GradeSeen(
                float(data[0]["percent"]),
                bool(data[0]["passed"]),
                str(data[0].get("letter_grade") or "")[:32],
            )
            if data
            else None
        ),
    )


def read_certificates(data: Any) -> list[CertificateSeen]:
    return reading(
        "certificates",
        lambda: [
            CertificateSeen(
                course_key=str(item["course_id"]),
                status=str(item.get("status") or "")[:32],
                certificate_type=str(item.get("certificate_type") or item.get("type") or "")[:64],
                is_passing=item.get("is_passing"),
                grade=str(item.get("grade") or "")[:16],
                download_url=str(item.get("download_url") or "")[:1000],
                issued_at=moment(item.get("created_date") or item.get("created")),
            )
            for item in data
        ],
    )


def read_tokens(data: Any, now: datetime) -> TokenPair:
    return reading(
        "tokens",
        lambda: TokenPair(
            access_token=str(data["access_token"]),
            refresh_token=str(data.get("refresh_token") or ""),
            scope=str(data.get("scope") or "")[:200],
            expires_at=now + timedelta(seconds=int(data["expires_in"])),
        ),
    )
