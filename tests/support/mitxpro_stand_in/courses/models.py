from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from mitxpro.models import AuditableModel, AuditModel, TimestampedModel, ValidateOnSaveMixin


class Course(TimestampedModel):
    title = models.CharField(max_length=255)
    readable_id = models.CharField(max_length=255, unique=True)
    is_external = models.BooleanField(default=False)


class CourseRun(TimestampedModel, ValidateOnSaveMixin):
    course = models.ForeignKey(Course, on_delete=models.CASCADE, related_name="courseruns")
    title = models.CharField(max_length=255)
    courseware_id = models.CharField(max_length=255, unique=True)
    run_tag = models.CharField(max_length=10)
    external_course_run_id = models.CharField(max_length=255, blank=True, default="")
    start_date = models.DateTimeField(null=True, blank=True)
    end_date = models.DateTimeField(null=True, blank=True)
    enrollment_start = models.DateTimeField(null=True, blank=True)
    enrollment_end = models.DateTimeField(null=True, blank=True)
    expiration_date = models.DateTimeField(null=True, blank=True)
    live = models.BooleanField(default=False)

    class Meta:
        unique_together = ("course", "run_tag")

    def clean(self):
        now = timezone.now()
        dates = [date for date in (self.start_date, self.enrollment_end) if date]
        if not dates:
            raise ValidationError("Either start date or enrollment end is required")
        if max(dates) < now:
            raise ValidationError("Start date or enrollment end must be in the future")
        if self.start_date and self.end_date and self.start_date > self.end_date:
            raise ValidationError("End date must be later than start date")
        if self.end_date and self.end_date < now:
            raise ValidationError("End date must be in the future")


class ActiveOnly(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(active=True)


class CourseRunEnrollment(TimestampedModel, AuditableModel):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    order = models.ForeignKey("ecommerce.Order", null=True, on_delete=models.PROTECT)
    run = models.ForeignKey(CourseRun, on_delete=models.PROTECT)
    change_status = models.CharField(max_length=20, null=True, blank=True)
    active = models.BooleanField(default=True)
    edx_enrolled = models.BooleanField(default=False)

    objects = ActiveOnly()
    all_objects = models.Manager()

    class Meta:
        unique_together = ("user", "run", "order")

    @classmethod
    def get_audit_class(cls):
        return CourseRunEnrollmentAudit

    def to_dict(self):
        return {
            **super().to_dict(),
            "updated_on": self.updated_on.isoformat(),
            "email": self.user.email,
            "text_id": self.run.courseware_id,
        }


class CourseRunEnrollmentAudit(AuditModel):
    enrollment = models.ForeignKey(CourseRunEnrollment, on_delete=models.PROTECT)


class CourseRunGrade(TimestampedModel, AuditableModel):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    course_run = models.ForeignKey(CourseRun, on_delete=models.CASCADE, related_name="grades")
    grade = models.FloatField()
    letter_grade = models.CharField(max_length=6, blank=True, null=True)
    passed = models.BooleanField(default=False)
    set_by_admin = models.BooleanField(default=False)


class CourseRunCertificate(TimestampedModel):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    course_run = models.ForeignKey(CourseRun, on_delete=models.CASCADE)
    is_revoked = models.BooleanField(default=False)

    class Meta:
        unique_together = ("user", "course_run")
