"""Certificates of learners."""

import uuid

from django.contrib.auth.models import User
from django.db import models
from opaque_keys.edx.django.models import CourseKeyField


class CertificateStatuses:
    deleted = "deleted"
    downloadable = "downloadable"
    error = "error"
    generating = "generating"
    notpassing = "notpassing"
    unavailable = "unavailable"
    unverified = "unverified"

    #: The learner has earned the certificate; with ``generating`` its file does not exist yet.
    PASSED_STATUSES = (downloadable, generating)


def new_verify_uuid() -> str:
    return uuid.uuid4().hex


class GeneratedCertificate(models.Model):
    """The certificate of one learner in one run. ``downloadable`` means that the learner has earned
    it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    course_id = CourseKeyField(max_length=255, blank=True, default=None)
    verify_uuid = models.CharField(
        max_length=32, blank=True, default=new_verify_uuid, db_index=True
    )
    download_uuid = models.CharField(max_length=32, blank=True, default="")
    download_url = models.CharField(max_length=128, blank=True, default="")
    grade = models.CharField(max_length=5, blank=True, default="")
    key = models.CharField(max_length=32, blank=True, default="")
    distinction = models.BooleanField(default=False)
    status = models.CharField(max_length=32, default="unavailable")
    mode = models.CharField(max_length=32, default="honor")
    name = models.CharField(blank=True, max_length=255)
    created_date = models.DateTimeField(auto_now_add=True)
    modified_date = models.DateTimeField(auto_now=True)
    error_reason = models.CharField(max_length=512, blank=True, default="")

    class Meta:
        app_label = "certificates"
        unique_together = (("user", "course_id"),)

    def __str__(self) -> str:
        return f"{self.user_id} in {self.course_id}: {self.status}"

    @property
    def is_passing(self) -> bool:
        return self.status in CertificateStatuses.PASSED_STATUSES
