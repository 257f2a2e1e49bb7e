"""Course runs and their modes, as the LMS has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from opaque_keys.edx.locator import CourseLocator

from usher.contract.failures import MALFORMED
from usher.engine.models import Reconciled, ReconciledQuerySet

#: As long as the platform's own column.
COURSE_KEY_MAX_LENGTH = 255


def validate_course_key(value: str) -> None:
    """Raises ValidationError unless ``value`` is a course key such as ``course-v1:edX+DemoX+1``."""
    try:
        # The library accepts dots as names; in a URL they would lead to another path.
        has_dots = {".", ".."} & set(re.split(r"[/+:]", value))
        if len(value) > COURSE_KEY_MAX_LENGTH or has_dots:
            raise InvalidKeyError(CourseKey, value[:200])
        key = CourseKey.from_string(value)
        # The library also reads keys of libraries, of versions of a run, and of a run's parts; the
        # LMS would take a part's key for the whole run.
        is_run = isinstance(key, CourseLocator) and not (key.branch or key.version_guid)
        if not is_run or str(key) != value:
            raise InvalidKeyError(CourseKey, value[:200])
    except InvalidKeyError as error:
        raise ValidationError(
            "%(key)s is not a course key; it looks like course-v1:ORG+NUMBER+RUN.",
            params={"key": value[:200]},
            code=MALFORMED,
        ) from error


@lru_cache(maxsize=10_000)
def problem_of_key(key: str) -> str:
    """Why ``key`` is not a course key; '' if it is one. Rows that were created before keys were
    validated may have malformed ones."""
    try:
        validate_course_key(key)
    except ValidationError as error:
        return str(error.messages[0])
    return ""


class CourseRunQuerySet(ReconciledQuerySet):
    """Refuses to create runs with malformed course keys."""

    def bulk_create(self, objs: Iterable[Any], *args: Any, **options: Any) -> list[Any]:
        """Raises ValidationError, before any row is created, for a malformed course key."""
        objs = list(objs)
        for run in objs:
            validate_course_key(run.course_key)
        return super().bulk_create(objs, *args, **options)


class CourseRun(Reconciled):
    """A run of a course. All fields but ``live`` are copied from the LMS.

    ``missing_since``: since when the LMS has not shown the run. ``digest``: a digest of the LMS's
    last answer, so that unchanged runs need no comparison of fields.
    """

    course_key = models.CharField(
        max_length=COURSE_KEY_MAX_LENGTH, unique=True, validators=[validate_course_key]
    )
    title = models.CharField(max_length=255, blank=True)
    org = models.CharField(max_length=255, blank=True, editable=False)
    number = models.CharField(max_length=255, blank=True, editable=False)
    short_description = models.TextField(blank=True)
    image_url = models.CharField(max_length=1000, blank=True, editable=False)
    pacing = models.CharField(max_length=16, blank=True, editable=False)
    start = models.DateTimeField(null=True, blank=True)
    end = models.DateTimeField(null=True, blank=True)
    enrollment_start = models.DateTimeField(null=True, blank=True)
    enrollment_end = models.DateTimeField(null=True, blank=True)
    upgrade_deadline = models.DateTimeField(null=True, blank=True)
    invitation_only = models.BooleanField(default=False, editable=False)
    hidden = models.BooleanField(default=False, editable=False)
    live = models.BooleanField("offered to learners", default=True)
    missing_since = models.DateTimeField(null=True, blank=True, editable=False)
    digest = models.CharField(max_length=32, blank=True, default="", editable=False)

    objects: ClassVar[Any] = CourseRunQuerySet.as_manager()

    class Meta(Reconciled.Meta):
        verbose_name = "course run"

    def save(self, *args: Any, **options: Any) -> None:
        """Raises ValidationError for a new row with a malformed course key. Existing rows keep
        theirs, so that they can still be changed and deleted."""
        if self._state.adding:
            validate_course_key(self.course_key)
        super().save(*args, **options)

    def __str__(self) -> str:
        return self.title or self.course_key

    def is_enrollable(self, now: datetime | None = None) -> bool:
        """Whether learners can enroll by themselves at the time ``now``, by default the present."""
        now = now or timezone.now()
        opened = self.enrollment_start is None or self.enrollment_start <= now
        closed = self.enrollment_end is not None and self.enrollment_end <= now
        ended = self.end is not None and self.end <= now
        return (
            self.live
            and not self.missing_since
            and not self.invitation_only
            and opened
            and not closed
            and not ended
        )


class RunModes(Reconciled):
    """The modes of a run as one reconciled row; the modes themselves are ``CourseMode``."""

    run = models.OneToOneField(CourseRun, on_delete=models.CASCADE, related_name="modes_state")

    class Meta(Reconciled.Meta):
        verbose_name = "modes of a run"
        verbose_name_plural = "modes of runs"

    def __str__(self) -> str:
        return f"modes of {self.run}"


class CourseMode(models.Model):
    """A mode of a run, such as ``audit`` or ``verified``. ``min_price`` is in ``currency``."""

    run = models.ForeignKey(CourseRun, on_delete=models.CASCADE, related_name="modes")
    slug = models.CharField(max_length=100)
    name = models.CharField(max_length=255, blank=True)
    min_price = models.PositiveIntegerField(default=0)
    currency = models.CharField(max_length=8, default="usd")
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "course mode"
        constraints = [
            models.UniqueConstraint(fields=["run", "slug", "currency"], name="mode_once_a_run")
        ]

    def __str__(self) -> str:
        return f"{self.slug} of {self.run}"

    def as_values(self) -> dict[str, Any]:
        """The fields that are copied from the LMS → their values."""
        fields = ("slug", "name", "min_price", "currency", "expires_at")
        return {field: getattr(self, field) for field in fields}
