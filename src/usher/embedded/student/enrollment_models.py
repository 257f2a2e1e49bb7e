"""Enrollments and roles in courses."""

from typing import Any

from django.contrib.auth.models import User
from django.db import models
from opaque_keys.edx.django.models import CourseKeyField
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_modes.models import default_mode_slug
from usher.embedded.course_overviews.models import CourseOverview


class CourseEnrollment(models.Model):
    """A user's enrollment in a run. An inactive row means that the user has left, or is being
    enrolled."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    course = models.ForeignKey(CourseOverview, db_constraint=False, on_delete=models.DO_NOTHING)
    created = models.DateTimeField(auto_now_add=True, null=True, db_index=True)
    is_active = models.BooleanField(default=True)
    mode = models.CharField(default=default_mode_slug, max_length=100)

    class Meta:
        unique_together = (("user", "course"),)
        indexes = [models.Index(fields=["user", "-created"])]
        ordering = ("user", "course")

    def __str__(self) -> str:
        return f"{self.user_id} in {self.course_id}: {self.mode}, active {self.is_active}"

    @property
    def username(self) -> str:
        return self.user.username

    @property
    def course_overview(self) -> CourseOverview | None:
        try:
            return self.course
        except CourseOverview.DoesNotExist:
            return None

    @classmethod
    def get_enrollment(cls, user: User, course_key: CourseKey) -> "CourseEnrollment | None":
        return cls.objects.filter(user=user, course_id=course_key).first()

    @classmethod
    def is_enrolled(cls, user: User, course_key: CourseKey) -> bool:
        return cls.objects.filter(user=user, course_id=course_key, is_active=True).exists()

    @classmethod
    def enroll(
        cls,
        user: User,
        course_key: CourseKey,
        mode: str | None = None,
        check_access: bool = False,
        can_upgrade: bool = False,
    ) -> "CourseEnrollment":
        """Calls ``services.enroll``, because code for the platform calls this method of the
        model."""
        from usher.embedded.student import services

        return services.enroll(
            user, course_key, mode=mode, check_access=check_access, can_upgrade=can_upgrade
        )

    @classmethod
    def unenroll(cls, user: User, course_id: CourseKey) -> None:
        enrollment = cls.get_enrollment(user, course_id)
        if enrollment is not None:
            enrollment.update_enrollment(is_active=False)

    def update_enrollment(self, mode: str | None = None, is_active: bool | None = None) -> None:
        from usher.embedded.student import services

        services.update_enrollment(self, mode=mode, is_active=is_active)

    def change_mode(self, mode: str) -> None:
        self.update_enrollment(mode=mode)


class CourseEnrollmentAllowed(models.Model):
    """An invitation to a run, for an e-mail address without an active account. The platform enrolls
    the person when an account with that address is activated; the embedded LMS does not."""

    email = models.CharField(max_length=255, db_index=True)
    course_id = CourseKeyField(max_length=255, db_index=True)
    auto_enroll = models.BooleanField(default=False)
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE)
    created = models.DateTimeField(auto_now_add=True, null=True, db_index=True)

    class Meta:
        unique_together = (("email", "course_id"),)

    def __str__(self) -> str:
        return f"{self.email} in {self.course_id}"


class CourseEnrollmentAttribute(models.Model):
    """Further information about an enrollment, such as the order that paid for it."""

    enrollment = models.ForeignKey(
        CourseEnrollment, related_name="attributes", on_delete=models.CASCADE
    )
    namespace = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    value = models.CharField(max_length=255)

    def __str__(self) -> str:
        return f"{self.namespace}:{self.name}={self.value}"

    @classmethod
    def add_enrollment_attr(
        cls, enrollment: CourseEnrollment, data_list: list[dict[str, Any]]
    ) -> None:
        for attribute in data_list:
            cls.objects.update_or_create(
                enrollment=enrollment,
                namespace=attribute["namespace"],
                name=attribute["name"],
                defaults={"value": attribute["value"]},
            )


class ManualEnrollmentAudit(models.Model):
    """One change of an enrollment by staff, for example in bulk."""

    enrollment = models.ForeignKey(CourseEnrollment, null=True, on_delete=models.CASCADE)
    enrolled_by = models.ForeignKey(User, null=True, on_delete=models.CASCADE)
    enrolled_email = models.CharField(max_length=255, db_index=True)
    time_stamp = models.DateTimeField(auto_now_add=True, null=True)
    state_transition = models.CharField(max_length=255)
    reason = models.TextField(null=True)  # noqa: DJ001 - as in the platform
    role = models.CharField(blank=True, null=True, max_length=64)  # noqa: DJ001

    def __str__(self) -> str:
        return f"{self.enrolled_email}: {self.state_transition}"


class CourseAccessRole(models.Model):
    """A user's role in a run, such as ``staff`` or ``instructor``."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    org = models.CharField(max_length=64, db_index=True, blank=True)
    course_id = CourseKeyField(max_length=255, db_index=True, blank=True)
    role = models.CharField(max_length=64, db_index=True)

    class Meta:
        unique_together = ("user", "org", "course_id", "role")

    def __str__(self) -> str:
        return f"{self.user_id}: {self.role} of {self.org} {self.course_id}"
