from datetime import timedelta

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models import Count, Q
from django.utils import timezone
from main.models import TimestampedModel


class UserManager(BaseUserManager):
    def create_user(self, username, email=None, password=None, **fields):
        user = self.model(username=username, email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        LegalAddress.objects.create(user=user)
        return user

    def create_superuser(self, username, email, password, **fields):
        return self.create_user(
            username, email, password, is_staff=True, is_superuser=True, **fields
        )


class FaultyUsers(BaseUserManager):
    """The users that the application's own repair command processes."""

    def get_queryset(self):
        return (
            super()
            .get_queryset()
            .annotate(accounts=Count("openedx_users"), tokens=Count("openedx_api_auth"))
            .filter(is_active=True, last_login__isnull=False)
            .filter(created_on__lt=timezone.now() - timedelta(minutes=5))
            .filter(Q(accounts=0) | Q(tokens=0) | Q(openedx_users__has_been_synced=False))
            .exclude(openedx_users__has_sync_error=True)
            .distinct()
        )


class User(AbstractBaseUser, TimestampedModel, PermissionsMixin):
    EMAIL_FIELD = "email"
    USERNAME_FIELD = "username"
    REQUIRED_FIELDS = ("email", "name")

    username = models.CharField(unique=True, max_length=500)
    email = models.EmailField(blank=False, unique=True)
    name = models.CharField(blank=True, default="", max_length=255)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    global_id = models.CharField(null=True, blank=True, unique=True, max_length=36)

    objects = UserManager()
    faulty_openedx_users = FaultyUsers()

    @property
    def edx_username(self):
        edx_user = self.openedx_users.first()
        return edx_user.edx_username if edx_user else None


class LegalAddress(TimestampedModel):
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="legal_address")
    first_name = models.CharField(max_length=255, blank=True)
    last_name = models.CharField(max_length=255, blank=True)
    country = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=10, blank=True, null=True)
