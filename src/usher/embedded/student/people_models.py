"""The platform's tables about users, other than ``auth_user``."""

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.validators import RegexValidator
from django.db import models
from django_countries.fields import CountryField
from opaque_keys.edx.django.models import LearningContextKeyField
from opaque_keys.edx.keys import CourseKey

from usher.embedded.core.models import TimeStampedModel


class UserProfile(models.Model):
    """The profile of a user who is a person. ``meta`` is a JSON object."""

    GENDER_CHOICES = (("m", "Male"), ("f", "Female"), ("o", "Other/Prefer Not to Say"))
    LEVEL_OF_EDUCATION_CHOICES = (
        ("p", "Doctorate"),
        ("m", "Master's or professional degree"),
        ("b", "Bachelor's degree"),
        ("a", "Associate degree"),
        ("hs", "Secondary/high school"),
        ("jhs", "Junior secondary/junior high/middle school"),
        ("el", "Elementary/primary school"),
        ("none", "No formal education"),
        ("other", "Other education"),
    )
    COUNTRY_WITH_STATES = "US"

    user = models.OneToOneField(User, related_name="profile", on_delete=models.CASCADE)
    name = models.CharField(blank=True, max_length=255, db_index=True)
    meta = models.TextField(blank=True)
    courseware = models.CharField(blank=True, max_length=255, default="course.xml")
    language = models.CharField(blank=True, max_length=255, db_index=True)
    location = models.CharField(blank=True, max_length=255, db_index=True)
    year_of_birth = models.IntegerField(blank=True, null=True, db_index=True)
    gender = models.CharField(  # noqa: DJ001 - as in the platform
        blank=True, null=True, max_length=6, db_index=True, choices=GENDER_CHOICES
    )
    level_of_education = models.CharField(  # noqa: DJ001
        blank=True, null=True, max_length=6, db_index=True, choices=LEVEL_OF_EDUCATION_CHOICES
    )
    mailing_address = models.TextField(blank=True, null=True)  # noqa: DJ001
    city = models.TextField(blank=True, null=True)  # noqa: DJ001
    country = CountryField(blank=True, null=True)
    state = models.CharField(blank=True, null=True, max_length=2)  # noqa: DJ001
    goals = models.TextField(blank=True, null=True)  # noqa: DJ001
    bio = models.CharField(blank=True, null=True, max_length=3000)  # noqa: DJ001
    profile_image_uploaded_at = models.DateTimeField(null=True, blank=True)
    phone_number = models.CharField(  # noqa: DJ001
        validators=[RegexValidator(regex=r"^\+?1?\d*$")], blank=True, null=True, max_length=50
    )

    class Meta:
        db_table = "auth_userprofile"
        permissions = (("can_deactivate_users", "Can deactivate, but NOT delete users"),)

    def __str__(self) -> str:
        return f"profile of {self.user_id}"

    @property
    def has_profile_image(self) -> bool:
        return self.profile_image_uploaded_at is not None

    def get_meta(self) -> dict[str, Any]:
        return json.loads(self.meta) if self.meta else {}

    def set_meta(self, meta: dict[str, Any]) -> None:
        self.meta = json.dumps(meta)

    def requires_parental_consent(self, default_requires_consent: bool = True) -> bool:
        """Whether the user may be a child; without a year of birth, ``default_requires_consent``.

        Only the year of birth is known. The user counts as born at the end of that year, so that no
        child counts as older.
        """
        if self.year_of_birth is None:
            return default_requires_consent
        age = datetime.now(UTC).year - self.year_of_birth - 1
        return age < settings.PARENTAL_CONSENT_AGE_LIMIT


class LanguageProficiency(models.Model):
    user_profile = models.ForeignKey(
        UserProfile, related_name="language_proficiencies", on_delete=models.CASCADE
    )
    code = models.CharField(max_length=16)

    class Meta:
        unique_together = (("code", "user_profile"),)

    def __str__(self) -> str:
        return self.code


class SocialLink(models.Model):
    user_profile = models.ForeignKey(
        UserProfile, related_name="social_links", on_delete=models.CASCADE
    )
    platform = models.CharField(max_length=30)
    social_link = models.CharField(max_length=100, blank=True)

    def __str__(self) -> str:
        return f"{self.platform}: {self.social_link}"


class Registration(models.Model):
    """The activation key of an account. Unlike the platform, the embedded LMS has no page that
    takes the key; ``activate`` is called for accounts that need no confirmation."""

    user = models.OneToOneField(User, on_delete=models.CASCADE)
    activation_key = models.CharField(max_length=32, unique=True)
    activation_timestamp = models.DateTimeField(default=None, null=True, blank=True)

    class Meta:
        db_table = "auth_registration"

    def __str__(self) -> str:
        return f"registration of {self.user_id}"

    def register(self, user: User) -> None:
        self.activation_key = uuid.uuid4().hex
        self.user = user
        self.save()

    def activate(self) -> None:
        self.user.is_active = True
        self.user.save(update_fields=["is_active"])
        self.activation_timestamp = datetime.now(UTC)
        self.save()


class UserStanding(models.Model):
    """Whether staff have disabled the account."""

    ACCOUNT_DISABLED = "disabled"
    ACCOUNT_ENABLED = "enabled"
    USER_STANDING_CHOICES = (
        (ACCOUNT_DISABLED, "Account Disabled"),
        (ACCOUNT_ENABLED, "Account Enabled"),
    )
    user = models.OneToOneField(User, related_name="standing", on_delete=models.CASCADE)
    account_status = models.CharField(blank=True, max_length=31, choices=USER_STANDING_CHOICES)
    changed_by = models.ForeignKey(User, blank=True, on_delete=models.CASCADE)
    standing_last_changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.account_status}"


class AccountRecovery(models.Model):
    """A second e-mail address, with which a user can get back into the account."""

    user = models.OneToOneField(User, related_name="account_recovery", on_delete=models.CASCADE)
    secondary_email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=False)

    class Meta:
        db_table = "auth_accountrecovery"

    def __str__(self) -> str:
        return f"recovery of {self.user_id}"


class PendingNameChange(models.Model):
    """A new name that waits for approval."""

    user = models.OneToOneField(User, on_delete=models.CASCADE)
    new_name = models.CharField(blank=True, max_length=255)
    rationale = models.CharField(blank=True, max_length=1024)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.new_name}"


class PendingEmailChange(models.Model):
    """A new e-mail address that waits for confirmation."""

    user = models.OneToOneField(User, on_delete=models.CASCADE)
    new_email = models.CharField(blank=True, max_length=255, db_index=True)
    activation_key = models.CharField(max_length=32, unique=True)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.new_email}"

    def request_change(self, email: str) -> str:
        """Store the new address; return the key that confirms it."""
        self.new_email = email
        self.activation_key = uuid.uuid4().hex
        self.save()
        return self.activation_key


class UserAttribute(TimeStampedModel):
    """Further information about a user, such as ``created_on_site``."""

    user = models.ForeignKey(User, related_name="attributes", on_delete=models.CASCADE)
    name = models.CharField(max_length=255, db_index=True)
    value = models.CharField(max_length=255)

    class Meta:
        unique_together = (("user", "name"),)

    def __str__(self) -> str:
        return f"{self.user_id} {self.name}: {self.value}"

    @classmethod
    def set_user_attribute(cls, user: User, name: str, value: str) -> None:
        cls.objects.update_or_create(user=user, name=name, defaults={"value": value})


class AnonymousUserId(models.Model):
    """A user's pseudonym (``sub`` of the LMS's JSON Web Tokens)."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    anonymous_user_id = models.CharField(unique=True, max_length=32)
    course_id = LearningContextKeyField(db_index=True, max_length=255, blank=True)

    def __str__(self) -> str:
        return self.anonymous_user_id


def anonymous_id_for_user(user: User, course_id: CourseKey | None = None) -> str:
    """Always the same 32 hex digits for one user and course, which the first call stores.
    course_id: None for the user's pseudonym outside of courses."""
    row = AnonymousUserId.objects.filter(user=user, course_id=course_id).first()
    if row:
        return row.anonymous_user_id
    text = f"{settings.SECRET_KEY}{user.pk}{course_id or ''}"
    digest = hashlib.shake_128(text.encode()).hexdigest(16)
    AnonymousUserId.objects.get_or_create(
        anonymous_user_id=digest, defaults={"user": user, "course_id": course_id}
    )
    return digest


def username_exists_or_retired(username: str) -> bool:
    return User.objects.filter(username__in=[username, retired_username(username)]).exists()


def email_exists_or_retired(email: str) -> bool:
    return (
        User.objects.filter(email__in=[email, retired_email(email)]).exists()
        or AccountRecovery.objects.filter(secondary_email=email).exists()
    )


def retired_username(username: str) -> str:
    """The username of the account after its retirement; ignores case, as the platform does."""
    return f"retired__user_{_digest(username)}"


def retired_email(email: str) -> str:
    """The address of the account after its retirement; ignores case."""
    return f"retired__user_{_digest(email)}@retired.invalid"


def _digest(text: str) -> str:
    """As the platform's ``user_util``, with another salt."""
    return hashlib.sha256(f"{settings.SECRET_KEY}:{text.lower()}".encode()).hexdigest()[:40]
