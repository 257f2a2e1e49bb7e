"""Sessions of learners, and the sign-out tokens that were used."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class LearnerSession(models.Model):
    """A session of a learner who signs in with an application. Recorded at sign-in, because the
    sessions of one user can't be looked up when Django keeps sessions in a cache."""

    user_id: int
    session_key = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created = models.DateTimeField(auto_now_add=True, db_index=True)
    #: When the application ended the session. The row stays, because the browser still has the JWT
    #: cookies.
    ended = models.DateTimeField(null=True, blank=True)

    class Meta:
        app_label = "usher_lms"

    def __str__(self) -> str:
        return f"session of {self.user_id}"


class UsedToken(models.Model):
    """The id of a sign-out token that was accepted, kept for as long as it could be replayed."""

    issuer = models.CharField(max_length=255)
    #: SHA-256 of the token's id: MySQL and MariaDB compare texts without case.
    jti = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        app_label = "usher_lms"
        constraints = [
            models.UniqueConstraint(fields=["issuer", "jti"], name="usher_lms_used_token"),
        ]

    def __str__(self) -> str:
        return self.jti
