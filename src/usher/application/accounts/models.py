"""LMS accounts of learners, and reserved usernames."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from usher.contract.limits import FULL_NAME_MAX_LENGTH, USERNAME_MAX_LENGTH
from usher.engine.models import Reconciled


class UsernameReservation(models.Model):
    """A username that was given to a learner.

    The LMS identifies learners by username, so a name is never given to a second
    learner: the row stays when the learner is deleted.
    """

    username = models.CharField(max_length=USERNAME_MAX_LENGTH)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="username_reservations",
    )
    reserved_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(Lower("username"), name="username_for_ever")]

    def __str__(self) -> str:
        return self.username


#: Accounts for which ``LmsAccount.is_deactivated_in_lms`` holds.
_DEACTIVATED = Q(is_active=True, observed_is_active=False, created_in_lms_at__isnull=False)


#: The error code of records that wait until an adopted account is linked in the LMS.
AWAITING_LINK = "awaiting-link"


class LmsAccount(Reconciled):
    """A learner's account in the LMS. The username never changes once the account exists in the
    LMS.

    ``is_active`` is desired, ``observed_is_active`` was last seen in the LMS. ``reserved_at``: when
    the learner got this username. An older LMS account of that name is somebody else's.
    ``created_in_lms_at``: since when the account is known to exist. ``linked_at``: the same time if
    an operator linked an account that existed before; see ``is_linked``.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="lms_account"
    )
    username = models.CharField(max_length=USERNAME_MAX_LENGTH)
    reserved_at = models.DateTimeField()
    #: How often the learner got another username because the LMS had an account with this one.
    renamings = models.PositiveSmallIntegerField(default=0, editable=False)
    is_active = models.BooleanField("wanted active", default=True)
    observed_is_active = models.BooleanField("seen active", null=True, editable=False)
    lms_user_id = models.BigIntegerField(null=True, blank=True, editable=False)
    created_in_lms_at = models.DateTimeField(null=True, blank=True, editable=False)
    linked_at = models.DateTimeField(null=True, blank=True, editable=False)

    #: The condition for other modules: accounts for which ``is_deactivated_in_lms`` holds.
    DEACTIVATED_IN_LMS = _DEACTIVATED

    class Meta(Reconciled.Meta):
        verbose_name = "LMS account"
        constraints = [models.UniqueConstraint(Lower("username"), name="lms_username_unique")]
        indexes = [
            *Reconciled.Meta.indexes,
            # No other index has ``username``, so PostgreSQL uses this index even without statistics
            # of ``observed_is_active``, for example after all accounts were adopted.
            models.Index(
                fields=["username"],
                name="lmsaccount_deactivated_names",
                condition=_DEACTIVATED,
            ),
        ]
        #: For actions of staff in the admin, on records of any kind.
        permissions = [
            ("retry_records", "Can retry records in the background"),
            ("repair_records", "Can retry records now, and wait for the LMS"),
            ("activate_accounts", "Can activate accounts that the LMS's staff deactivated"),
            ("unenroll_learners", "Can unenroll learners in the LMS"),
            ("close_retirements", "Can mark retirements as done by hand"),
            ("view_health", "Can see the health page"),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def is_ready(self) -> bool:
        """Whether the account is known to exist in the LMS."""
        return self.created_in_lms_at is not None

    @property
    def is_linked(self) -> bool:
        """Whether an operator linked this account, which existed before. False if Usher created the
        account for the learner, for example to replace a linked account that the LMS lost."""
        return self.is_ready and self.linked_at == self.created_in_lms_at

    @property
    def origin(self) -> str:
        """How the learner got the account: ``linked`` or ``created``; '' if the account is not
        known to exist."""
        if not self.is_ready:
            return ""
        return "linked" if self.is_linked else "created"

    @property
    def awaits_link(self) -> bool:
        """Whether an operator has linked this existing account to the learner, and the LMS has not
        linked the account yet. The LMS refuses the learner until its staff have run
        ``usher_link``."""
        return self.is_ready and self.observed_generation == 0

    @property
    def is_deactivated_in_lms(self) -> bool:
        """Whether the LMS's staff deactivated an account that is active here."""
        return self.is_ready and self.is_active and self.observed_is_active is False


class LmsProfile(Reconciled):
    """The desired full name, country and e-mail of a learner in the LMS; ``observed_…`` are the
    values last seen in the LMS."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="lms_profile"
    )
    name = models.CharField(max_length=FULL_NAME_MAX_LENGTH, blank=True)
    country = models.CharField(max_length=2, blank=True)
    email = models.EmailField(blank=True)
    observed_name = models.CharField(
        max_length=FULL_NAME_MAX_LENGTH, blank=True, default="", editable=False
    )
    observed_country = models.CharField(max_length=2, blank=True, default="", editable=False)
    observed_email = models.EmailField(blank=True, default="", editable=False)

    class Meta(Reconciled.Meta):
        verbose_name = "LMS profile"

    def __str__(self) -> str:
        return self.name or self.email


class Retirement(Reconciled):
    """The deactivation of a deleted learner's LMS account.

    ``reserved_at``: when the learner got the username, if the account was not known to exist; an
    older LMS account of that name is somebody else's. Null if the account was known to exist.
    """

    username = models.CharField(max_length=USERNAME_MAX_LENGTH, unique=True)
    reserved_at = models.DateTimeField(null=True, blank=True, editable=False)
    asked_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.username
