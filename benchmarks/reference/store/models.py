"""The tables of the serial implementation: users' LMS accounts and tokens, runs, enrollments."""

from django.conf import settings
from django.db import models


class OpenEdxUser(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    username = models.CharField(max_length=30, unique=True)
    has_been_synced = models.BooleanField(default=False)
    updated_on = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.username


class OpenEdxTokens(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    access_token = models.CharField(max_length=255)
    refresh_token = models.CharField(max_length=255)
    expires_at = models.DateTimeField()
    updated_on = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"tokens of {self.user_id}"


class Run(models.Model):
    course_key = models.CharField(max_length=255, unique=True)
    title = models.CharField(max_length=255)
    start = models.DateTimeField(null=True)
    end = models.DateTimeField(null=True)
    enrollment_start = models.DateTimeField(null=True)
    enrollment_end = models.DateTimeField(null=True)
    is_self_paced = models.BooleanField(default=False)
    updated_on = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.course_key


class RunEnrollment(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    mode = models.CharField(max_length=20, default="audit")
    edx_enrolled = models.BooleanField(default=False)
    updated_on = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.user_id} in {self.run_id}"
