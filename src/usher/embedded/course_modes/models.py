"""The enrollment modes of course runs (``course_modes`` of the platform)."""

from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.core.validators import validate_comma_separated_integer_list
from django.db import models
from django.db.models import Q
from django.utils import timezone
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_overviews.models import CourseOverview


class Mode(NamedTuple):
    """A mode as enrollment code sees it; times are UTC, ``min_price`` is in whole units of
    ``currency``."""

    slug: str
    name: str
    min_price: int
    suggested_prices: str
    currency: str
    expiration_datetime: datetime | None
    description: str | None
    sku: str | None
    android_sku: str | None
    ios_sku: str | None
    bulk_sku: str | None


DEFAULT_MODE = Mode(**settings.COURSE_MODE_DEFAULTS)


def default_mode_slug() -> str:
    return DEFAULT_MODE.slug


class CourseMode(models.Model):
    """One mode of one run; ``expiration_datetime`` is the last moment to upgrade to it."""

    HONOR = "honor"
    PROFESSIONAL = "professional"
    VERIFIED = "verified"
    AUDIT = "audit"
    NO_ID_PROFESSIONAL_MODE = "no-id-professional"
    CREDIT_MODE = "credit"
    MASTERS = "masters"
    DEFAULT_MODE_SLUG = DEFAULT_MODE.slug
    CREDIT_MODES = (CREDIT_MODE,)
    VERIFIED_MODES = (VERIFIED, PROFESSIONAL, MASTERS)

    course = models.ForeignKey(
        CourseOverview,
        db_constraint=False,
        related_name="modes",
        on_delete=models.DO_NOTHING,
    )
    mode_slug = models.CharField(max_length=100, verbose_name="Mode")
    mode_display_name = models.CharField(max_length=255, verbose_name="Display Name")
    min_price = models.IntegerField(default=0, verbose_name="Price")
    currency = models.CharField(default="usd", max_length=8)
    _expiration_datetime = models.DateTimeField(
        default=None,
        null=True,
        blank=True,
        db_column="expiration_datetime",
        verbose_name="Upgrade Deadline",
    )
    #: Whether a deadline was ever set. Deleting the deadline does not change this field.
    expiration_datetime_is_explicit = models.BooleanField(default=False)
    suggested_prices = models.CharField(
        max_length=255,
        blank=True,
        default="",
        validators=[validate_comma_separated_integer_list],
    )
    description = models.TextField(null=True, blank=True)  # noqa: DJ001 - as in the platform
    sku = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001
    android_sku = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001
    ios_sku = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001
    bulk_sku = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001

    class Meta:
        app_label = "course_modes"
        unique_together = ("course", "mode_slug", "currency")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        expiration = kwargs.pop("expiration_datetime", None)
        super().__init__(*args, **kwargs)
        if expiration is not None:
            self.expiration_datetime = expiration

    def __str__(self) -> str:
        return f"{self.course_id} : {self.mode_slug}"

    @property
    def expiration_datetime(self) -> datetime | None:
        return self._expiration_datetime

    @expiration_datetime.setter
    def expiration_datetime(self, moment: datetime | None) -> None:
        if moment is not None:
            self.expiration_datetime_is_explicit = True
        self._expiration_datetime = moment

    @classmethod
    def modes_for_course(
        cls,
        course_id: CourseKey,
        include_expired: bool = False,
        only_selectable: bool = True,
    ) -> list[Mode]:
        """The modes that learners can choose now; ``[DEFAULT_MODE]`` for a run without modes.
        include_expired: also modes whose deadline has passed. only_selectable: leave out modes for
        academic credit."""
        modes = cls.objects.filter(course_id=course_id).order_by("id")
        if not include_expired:
            modes = modes.filter(
                Q(_expiration_datetime__isnull=True) | Q(_expiration_datetime__gte=timezone.now())
            )
        if only_selectable:
            modes = modes.exclude(mode_slug__in=cls.CREDIT_MODES)
        return [mode.to_tuple() for mode in modes] or [DEFAULT_MODE]

    def to_tuple(self) -> Mode:
        return Mode(
            slug=self.mode_slug,
            name=self.mode_display_name,
            min_price=self.min_price,
            suggested_prices=self.suggested_prices,
            currency=self.currency,
            expiration_datetime=self.expiration_datetime,
            description=self.description,
            sku=self.sku,
            android_sku=self.android_sku,
            ios_sku=self.ios_sku,
            bulk_sku=self.bulk_sku,
        )
