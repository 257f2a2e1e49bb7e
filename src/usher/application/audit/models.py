from django.conf import settings
from django.db import models

#: Event name → the event's title on pages, if the title has other words than the name.
_TITLES = {
    "console-compare": "Compared with the LMS in the console",
    "console-export": "Refusals exported from the console",
    "console-ignore": "Refusals ignored in the console",
    "console-link": "Linked to an existing LMS account in the console",
    "console-repair": "Repaired in the console",
    "console-retry": "Refusals retried in the console",
    "console-synchronise": "Course run synchronised in the console",
    "console-unignore": "Ignored refusals shown again in the console",
    "e-mail-changed": "E-mail address changed",
    "enrollment-from-lms": "Enrollment made in the LMS recorded here",
    "enrollment-mode-changed": "Mode of an enrollment changed",
    "lms-account": "LMS account created or changed",
    "lms-account-activated": "LMS account activated",
    "lms-account-activated-in-lms": "LMS account activated in the LMS, not from here",
    "lms-account-activation-refused": "Activation of the LMS account refused",
    "lms-account-change-refused": "Change of the LMS account refused",
    "lms-account-changed": "LMS account changed",
    "lms-account-created": "LMS account created",
    "lms-account-deactivated": "LMS account deactivated",
    "lms-account-deactivated-in-lms": "LMS account deactivated in the LMS, not from here",
    "lms-account-deactivation-refused": "Deactivation of the LMS account refused",
    "lms-account-linked": "Linked here to an existing LMS account",
    "lms-account-linked-in-lms": "The existing LMS account was linked in the LMS, too",
    "lms-account-missing": "The LMS has lost the LMS account; it is created again",
    "lms-account-refused": "LMS account refused",
    "lms-account-retired": "LMS account of the deleted learner deactivated",
    "lms-sign-out": "Signed out of the LMS",
    "lms-token": "LMS token obtained",
    "own-password-changed": "Password changed",
    "sign-in": "Sign-in",
    "sign-out": "Sign-out",
    "sign-up": "Sign-up",
    "token": "Token issued",
}

#: Event name → a sentence about the event, with values of its ``detail``.
_SENTENCES = {
    "enrolled": "Enrolled in {run} as {mode}",
    "enrollment-from-lms": "Enrollment in {run} as {mode}, made in the LMS, recorded here",
    "enrollment-mode-changed": "Mode in {run} changed from {before} to {mode}",
    "enrollment-refused": "Enrollment in {run} as {mode} refused",
    "unenrolled": "Unenrolled from {run}",
    "unenrollment-refused": "Unenrollment from {run} refused",
}


class AuditEvent(models.Model):
    """One event. Rows are added, never changed.

    actor: the user who caused the event, or null. subject: the user or object that the event is
    about, as text, which remains when the object is deleted. address: the client's IP address, if a
    request caused the event. detail: further values, with secrets redacted by
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
        """The event as pages show it: ``LMS account created``."""
        return _TITLES.get(self.name) or self.name.replace("-", " ").capitalize()

    @property
    def run(self) -> str:
        """The key of the course run that the event is about; '' for none."""
        detail = self.detail if isinstance(self.detail, dict) else {}
        return str(detail.get("run") or "")

    @property
    def sentence(self) -> str:
        """The event and its object in one sentence: ``Enrolled in course-v1:edX+DemoX+1 as audit``.
        A failure ends with its error code."""
        detail = self.detail if isinstance(self.detail, dict) else {}
        try:
            text = _SENTENCES[self.name].format_map(detail)
        except KeyError:
            text = f"{self.title}: {self.run}" if self.run else self.title
        if self.succeeded:
            return text
        if not self.name.endswith("refused"):
            text += ": failed"
        code = detail.get("error_code")
        return f"{text} [{code}]" if code else text
