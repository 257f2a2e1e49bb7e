"""The course runs of the LMS (``course_overviews`` of the platform), without content."""

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.db import models
from django.db.models import Q
from django.template import defaultfilters
from django.utils import timezone
from opaque_keys.edx.django.models import CourseKeyField, UsageKeyField
from opaque_keys.edx.keys import CourseKey

from usher.embedded.core.models import TimeStampedModel

#: The start date of a run that is created without a start date.
DEFAULT_START_DATE = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DEFAULT_IMAGE_URL = "/static/img.png"


if TYPE_CHECKING:

    class RunKeyField(CourseKeyField):
        """A primary key is never empty, which the library's types don't know."""

        _pyi_private_get_type: CourseKey

else:
    RunKeyField = CourseKeyField


class CourseOverview(TimeStampedModel):
    """One course run; the key is ``id``."""

    #: The platform's version of this model.
    VERSION = 19

    version = models.IntegerField(default=VERSION)
    id = RunKeyField(db_index=True, primary_key=True, max_length=255)
    _location = UsageKeyField(max_length=255)
    org = models.TextField(max_length=255, default="outdated_entry")
    display_name = models.TextField(null=True)  # noqa: DJ001 - as in the platform
    display_number_with_default = models.TextField()
    display_org_with_default = models.TextField()
    start = models.DateTimeField(null=True)
    end = models.DateTimeField(null=True)
    advertised_start = models.TextField(null=True)  # noqa: DJ001
    announcement = models.DateTimeField(null=True)
    banner_image_url = models.TextField(default="")
    course_image_url = models.TextField(default=DEFAULT_IMAGE_URL)
    social_sharing_url = models.TextField(null=True)  # noqa: DJ001
    certificates_display_behavior = models.TextField(null=True)  # noqa: DJ001
    certificates_show_before_end = models.BooleanField(default=False)
    cert_html_view_enabled = models.BooleanField(default=True)
    has_any_active_web_certificate = models.BooleanField(default=False)
    cert_name_short = models.TextField(default="")
    cert_name_long = models.TextField(default="")
    certificate_available_date = models.DateTimeField(default=None, null=True)
    lowest_passing_grade = models.DecimalField(max_digits=5, decimal_places=2, null=True)
    days_early_for_beta = models.FloatField(null=True)
    mobile_available = models.BooleanField(default=True)
    visible_to_staff_only = models.BooleanField(default=False)
    _pre_requisite_courses_json = models.TextField(default="[]")
    enrollment_start = models.DateTimeField(null=True)
    enrollment_end = models.DateTimeField(null=True)
    enrollment_domain = models.TextField(null=True)  # noqa: DJ001
    invitation_only = models.BooleanField(default=False)
    max_student_enrollments_allowed = models.IntegerField(null=True)
    catalog_visibility = models.TextField(null=True, default="both")  # noqa: DJ001
    short_description = models.TextField(null=True, default="")  # noqa: DJ001
    course_video_url = models.TextField(null=True, default="")  # noqa: DJ001
    effort = models.TextField(null=True, default="")  # noqa: DJ001
    self_paced = models.BooleanField(default=True)
    marketing_url = models.TextField(null=True)  # noqa: DJ001
    eligible_for_financial_aid = models.BooleanField(default=True)
    language = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        app_label = "course_overviews"

    def __str__(self) -> str:
        return str(self.id)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Fill in the fields that are derived from the key, and save."""
        key = self.id
        if not self._location:
            self._location = key.make_usage_key("course", "course")
        if not self.display_number_with_default:
            # A run's key always has these parts. Its declared type also covers keys that lack them.
            self.org = self.display_org_with_default = cast(str, key.org)
            self.display_number_with_default = cast(str, key.course)
        super().save(*args, **kwargs)

    @classmethod
    def get_from_id(cls, course_id: CourseKey) -> "CourseOverview":
        """The run with this key. Raises CourseOverview.DoesNotExist."""
        return cls.objects.get(id=course_id)

    @classmethod
    def course_exists(cls, course_id: CourseKey) -> bool:
        return cls.objects.filter(id=course_id).exists()

    @classmethod
    def get_all_courses(
        cls,
        orgs: Iterable[str] | None = None,
        filter_: dict[str, Any] | None = None,
        active_only: bool = False,
        course_keys: Iterable[str] | None = None,
    ) -> "models.QuerySet[CourseOverview]":
        """The runs, oldest first. orgs, course_keys: only runs of these organizations, in upper or
        lower case, or with these keys; None for all. filter_: further conditions, as for
        ``filter``. active_only: leave out runs that have ended."""
        courses = cls.objects.order_by("created", "id")
        if course_keys:
            courses = courses.filter(id__in=[CourseKey.from_string(key) for key in course_keys])
        if orgs:
            condition = Q()
            for org in orgs:
                condition |= Q(org__iexact=org)
            courses = courses.filter(condition)
        if active_only:
            courses = courses.filter(Q(end__isnull=True) | Q(end__gte=timezone.now()))
        return courses.filter(**filter_) if filter_ else courses

    @property
    def display_name_with_default(self) -> str:
        return self.display_name or cast(str, self.id.run).replace("_", " ")

    @property
    def display_name_with_default_escaped(self) -> str:
        return self.display_name_with_default.replace("<", "&lt;").replace(">", "&gt;")

    @property
    def pacing(self) -> str:
        return "self" if self.self_paced else "instructor"

    @property
    def start_type(self) -> str:
        if self.advertised_start:
            return "string"
        return "timestamp" if self.start != DEFAULT_START_DATE else "empty"

    @property
    def start_display(self) -> str | None:
        if self.advertised_start:
            return self.advertised_start
        if self.start == DEFAULT_START_DATE:
            return None
        return str(defaultfilters.date(self.start, "DATE_FORMAT"))

    @property
    def image_urls(self) -> dict[str, str]:
        return dict.fromkeys(("raw", "small", "large"), self.course_image_url)

    def is_enrollment_open(self) -> bool:
        now = timezone.now()
        started = self.enrollment_start is None or self.enrollment_start < now
        return started and (self.enrollment_end is None or now < self.enrollment_end)

    def has_ended(self) -> bool:
        return self.end is not None and self.end < timezone.now()

    def has_started(self) -> bool:
        return self.start is None or self.start <= timezone.now()
