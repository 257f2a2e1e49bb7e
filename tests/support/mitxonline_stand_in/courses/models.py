from django.conf import settings
from django.db import models
from main.models import AuditableModel, AuditModel, TimestampedModel


class Course(TimestampedModel):
    title = models.CharField(max_length=255)
    readable_id = models.CharField(max_length=255, unique=True)


class EnrollmentMode(models.Model):
    mode_slug = models.CharField(max_length=255, blank=True, default="audit", unique=True)
    mode_display_name = models.CharField(max_length=255, blank=True, default="audit")
    requires_payment = models.BooleanField(default=False, blank=True)


class CourseRun(TimestampedModel):
    course = models.ForeignKey(Course, on_delete=models.CASCADE, related_name="courseruns")
    title = models.CharField(max_length=255)
    courseware_id = models.CharField(max_length=255, unique=True)
    run_tag = models.TextField(max_length=100)
    start_date = models.DateTimeField(null=True, blank=True)
    end_date = models.DateTimeField(null=True, blank=True)
    enrollment_start = models.DateTimeField(null=True, blank=True)
    enrollment_end = models.DateTimeField(null=True, blank=True)
    expiration_date = models.DateTimeField(null=True, blank=True)
    certificate_available_date = models.DateTimeField(null=True, blank=True)
    upgrade_deadline = models.DateTimeField(null=True, blank=True, db_index=True)
    enrollment_modes = models.ManyToManyField(EnrollmentMode, blank=True, related_name="+")
    live = models.BooleanField(default=False)
    is_self_paced = models.BooleanField(default=False)
    is_source_run = models.BooleanField(default=False)

    @property
    def is_fake_course_run(self):
        return self.run_tag.startswith("fake")


class ActiveOnly(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(active=True)


class CourseRunEnrollment(TimestampedModel, AuditableModel):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    run = models.ForeignKey(CourseRun, on_delete=models.CASCADE, related_name="enrollments")
    change_status = models.CharField(max_length=20, null=True, blank=True)
    active = models.BooleanField(default=True)
    enrollment_mode = models.CharField(default="audit", max_length=20)
    edx_enrolled = models.BooleanField(default=False)
    edx_emails_subscription = models.BooleanField(default=True)
    edx_enrollment_retry_count = models.PositiveIntegerField(default=0)

    objects = ActiveOnly()
    all_objects = models.Manager()

    class Meta:
        unique_together = ("user", "run")

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
