from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models import Count, Q
from mitxpro.models import TimestampedModel


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
            .select_related("openedx_api_auth")
            .prefetch_related("courseware_users")
            .annotate(accounts=Count("courseware_users"), tokens=Count("openedx_api_auth"))
            .filter(Q(accounts=0) | Q(tokens=0), is_active=True)
        )


class User(AbstractBaseUser, TimestampedModel, PermissionsMixin):
    EMAIL_FIELD = "email"
    USERNAME_FIELD = "username"
    REQUIRED_FIELDS = ("email", "name")

    username = models.CharField(unique=True, max_length=50)
    email = models.EmailField(blank=False, unique=True)
    name = models.CharField(blank=True, default="", max_length=255)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=False)

    objects = UserManager()
    faulty_courseware_users = FaultyUsers()


class LegalAddress(TimestampedModel):
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="legal_address")
    first_name = models.CharField(max_length=255, blank=True)
    last_name = models.CharField(max_length=255, blank=True)
    country = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=10, blank=True, null=True)
