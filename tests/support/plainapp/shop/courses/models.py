from django.conf import settings
from django.db import models


class CourseRun(models.Model):
    courseware_id = models.CharField(max_length=255, unique=True)
    title = models.CharField(max_length=255, blank=True)
    start_date = models.DateTimeField(null=True)
    end_date = models.DateTimeField(null=True)


class OpenEdxUser(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)


class OpenEdxApiAuth(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    access_token = models.CharField(max_length=500)
    refresh_token = models.CharField(max_length=255)
