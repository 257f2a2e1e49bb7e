"""Texts of the console: names of kinds, explanations of error codes, times."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from usher.application.states import duration_text

#: Kind → its name for people, in the singular and in the plural.
KINDS: dict[str, tuple[str, str]] = {
    "account": ("account", "LMS accounts"),
    "token": ("token", "LMS tokens"),
    "run": ("course run", "Course runs"),
    "mode": ("modes of a run", "Modes of runs"),
    "enrollment": ("enrollment", "Enrollments"),
    "profile": ("profile", "Names and e-mails"),
    "grade": ("grade", "Grades"),
    "certificate": ("certificate", "Certificates"),
    "retirement": ("retirement", "Retirements"),
}

#: Error code → its meaning, and advice, in which ``{retry}`` becomes the label of the page's
#: button. Other codes are the LMS's own.
REASONS: dict[str, tuple[str, str]] = {
    "duplicate-email": (
        "The LMS has another account with this e-mail address",
        "Compare the learner with the LMS: link that account if it is the same person's.",
    ),
    "duplicate-username": (
        "The LMS has another account with this username",
        "Compare the learner with the LMS: link that account if it is the same person's.",
    ),
    "duplicate-email-username": (
        "The LMS has another account with this e-mail address and username",
        "Compare the learner with the LMS: link that account if it is the same person's.",
    ),
    "validation-error": (
        "The LMS does not accept the learner's data",
        "Correct the value that the LMS's message names in this application, then {retry}.",
    ),
    "invalid-country": (
        "The LMS does not know the country",
        "Correct the learner's country, then {retry}.",
    ),
    "protected-account": (
        "The LMS account has staff rights of its own",
        "Link the account by hand, or remove its rights in the LMS, then {retry}.",
    ),
    "linked-elsewhere": (
        "The learner signs in to another LMS account",
        "Compare the learner with the LMS. The comparison shows whether that account was renamed, "
        "or is another person's.",
    ),
    "enrollment-closed": (
        "The run does not accept enrollments now",
        "Change the run's enrollment dates in the LMS, then {retry}; or select “Enroll although "
        "closed” for the enrollment in the admin.",
    ),
    "mode-not-offered": (
        "The run does not offer this mode",
        "Add the mode to the run in the LMS, or move its deadline there, then {retry}; or choose "
        "another mode for the learner in the admin.",
    ),
    "mode-kept": (
        "The LMS keeps the learner in another mode",
        "Change the mode in the LMS's admin, or set the enrollment here to the mode of the LMS.",
    ),
    "mode-mismatch": (
        "The learner is enrolled in another mode",
        "Compare the learner with the LMS, then set the enrollment here to the mode of the LMS.",
    ),
    "not-found": (
        "The LMS does not show it",
        "Publish the run, or allow the service worker to see it; or remove it here.",
    ),
    "malformed-course-key": (
        "The course key is mistyped",
        "A course key has the form course-v1:ORG+NUMBER+RUN. Delete the run in the admin, and add "
        "it with the right key.",
    ),
    "unknown-run": (
        "The LMS does not have this course run",
        "Publish the run in the LMS; the enrollment is then sent again. If its key is mistyped, "
        "enroll the learner in the right run, and delete this one: `usher why LEARNER` shows the "
        "command.",
    ),
    "mode-unavailable": (
        "The run does not offer this mode",
        "Add the mode to the run in the LMS, or move its deadline there, then {retry}; or choose "
        "another mode for the learner in the admin.",
    ),
    "course-full": (
        "The run is full",
        "Raise the limit of the run in the LMS, then {retry}.",
    ),
    "not-allowed": (
        "The LMS does not allow the learner into this run",
        "The run is open to some learners only: allow this one in the LMS, then {retry}.",
    ),
    "not-enrolled": (
        "The LMS has no such enrollment",
        "Compare the learner with the LMS. There is no enrollment to end.",
    ),
    "invalid": (
        "The LMS does not understand the request",
        "Compare the versions of usher.lms and of this application, then {retry}.",
    ),
    "refused": (
        "The LMS refuses the change",
        "Read the LMS's message, remove the cause, then {retry}.",
    ),
    "bad-value": (
        "The LMS has a value that this application can't store",
        "Correct the value in the LMS, then {retry}.",
    ),
    "unwritable": (
        "The LMS has a value that this application can't store",
        "Correct the value in the LMS, then {retry}.",
    ),
    "enrollment-refused": (
        "The LMS refuses the enrollment",
        "Read the LMS's message: often the run does not accept enrollments now. Then {retry}.",
    ),
    "registration-refused": (
        "The LMS refuses to create the account",
        "Read the LMS's message, correct the learner's data, then {retry}.",
    ),
    "awaiting-link": (
        "The LMS account is linked here, and not in the LMS yet",
        "Run the command that the message names. Afterwards the account is retried automatically.",
    ),
    "adapter-failed": (
        "A method of USHER_ADAPTER failed for this learner",
        "A developer must correct that class; the message and the log say where. The record is "
        "retried automatically.",
    ),
    "sign-in-stopped": (
        "The LMS stopped the sign-in",
        "Read the LMS's message: the account may be linked to another person there.",
    ),
    "not-linked": (
        "The LMS does not link the learner's sign-in to the account",
        "Compare the learner with the LMS: the account may be another person's.",
    ),
    "activation-by-hand": (
        "The LMS account must be activated by hand",
        "Activate it in the LMS's admin, then {retry}.",
    ),
    "unknown-user": (
        "The LMS does not have this learner",
        "Repair the learner: the account is created again.",
    ),
    "account-disabled": (
        "The LMS account is deactivated",
        "Activate it in the LMS if the ban is over, then {retry}.",
    ),
    "retirement-by-hand": (
        "The LMS account must be retired by hand",
        "Retire it in the LMS's admin, then mark the retirement as done.",
    ),
    "deactivation-by-hand": (
        "The LMS account must be deactivated by hand",
        "Deactivate it in the LMS's admin, then {retry}.",
    ),
    "email-needs-usher-lms": (
        "The LMS changes an e-mail address only when its owner confirms it",
        "Install usher.lms, or change it in the LMS's admin, then {retry}.",
    ),
}

#: Codes whose message is Usher's own, because nothing was sent, or because the message describes
#: the LMS's answer.
_CODES_WITH_OWN_MESSAGE = {
    "activation-by-hand",
    "adapter-failed",
    "awaiting-link",
    "bad-value",
    "deactivation-by-hand",
    "email-needs-usher-lms",
    "malformed-course-key",
    "mode-kept",
    "not-linked",
    "retirement-by-hand",
    "sign-in-stopped",
    "unwritable",
}

_DEFAULT_ADVICE = "Read the LMS's message, remove the cause, then {retry}."
_TAKEN_ADDRESS_ADVICE = (
    "Find out whose account that is, in the LMS's admin. If it is the same person's, give it "
    "another address there, then {retry}."
)
#: The label of the retry button on a learner's page.
REPAIR_LABEL = "choose Repair now"


def singular(kind: str) -> str:
    name, _ = KINDS.get(kind, (kind, kind))
    return name


def plural(kind: str) -> str:
    _, name = KINDS.get(kind, (kind, kind))
    return name


def reason(code: str) -> str:
    """The meaning of an error code, for a heading."""
    if code not in REASONS:
        return f"Refused with {code or 'no code'}"
    meaning, _ = REASONS[code]
    return meaning


def advice(code: str, kind: str = "", retry: str = "retry") -> str:
    """Advice about an error code. kind: the record's kind, '' for any. retry: the label of the
    page's retry button."""
    _, text = REASONS.get(code, ("", _DEFAULT_ADVICE))
    if kind == "profile" and code == "duplicate-email":
        text = _TAKEN_ADDRESS_ADVICE
    return text.replace("{retry}", retry)


def message_label(code: str, kind: str = "") -> str:
    """The label of a refusal's message: ``The LMS says``, or ``Why`` if Usher wrote the message.
    kind: the record's kind, '' for any."""
    is_own = code in _CODES_WITH_OWN_MESSAGE or (kind in ("run", "profile") and code == "not-found")
    return "Why" if is_own else "The LMS says"


def ago(moment: datetime | None) -> str:
    """``12 s ago``; ``never``."""
    if moment is None:
        return "never"
    seconds = (timezone.now() - moment).total_seconds()
    return "just now" if seconds < 1 else f"{duration_text(seconds)} ago"
