from django.conf import settings
from django.db import models

#: Event name → its title on pages, if it is not the name in other letters.
_TITLES = {
    "console-compare": "Compared with the LMS in the console",
    "console-export": "Refusals exported from the console",
    "console-ignore": "Refusals ignored in the console",
    "console-link": "Linked to an existing LMS account in the console",
    "console-repair": "Repaired in the console",
    "console-retry": "Refusals retried in the console",
    "console-synchronise": "Course run synchronised in the console",
    "console-unignore": "Ignored refusals shown again in the console",
    "lms-account": "LMS account created or changed",
    "lms-token": "LMS token obtained",
    "enrollment-from-lms": "Enrollment made in the LMS recorded here",
    "lms-sign-out": "Signed out of the LMS",
    "own-password-changed": "Password changed",
    "token": "Token issued",
}


class AuditEvent(models.Model):
    """One event. Rows are added, never changed.

    actor: the user who caused the event, or null. subject: the user or object that it is about, as
    text, which remains when the object is deleted. detail: further values, with secrets redacted by
    ``usher.application.audit.text``.
    """

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    name = models.CharField(max_length=60, db_index=True)
    succeeded = models.BooleanField(default=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    subject = models.CharField(max_length=255, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["subject", "-id"])]

    def __str__(self) -> str:
        return f"{self.name} {self.subject}".strip()

    @property
    def title(self) -> str:
        """The event as pages show it: ``LMS account created or changed``."""
        return _TITLES.get(self.name) or self.name.replace("-", " ").capitalize()
