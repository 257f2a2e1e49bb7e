"""Learners' accounts in the LMS."""

from usher.contract.failures import RegistrationError
from usher.contract.report import Learners
from usher.doctor.check import Check, Finding, check, failed, ok, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import PROVISION, lms_manage, manage

_REPAIR = manage("repair_missing_courseware_records")
_UP = ("OPS-1", "OPS-2", "OPS-3")


def _refused(context: Context, *codes: str) -> tuple[int, str]:
    """How many learners the LMS refuses for that reason, and what it says about one."""
    rows = context.application.errors("account", *codes)
    message = next((f"{row.get('sample', '')}: {row.get('message', '')}" for row in rows), "")
    return sum(row.get("count", 0) for row in rows), message[:160]


def _learners(context: Context) -> Learners:
    if "learners" not in context.lms.report:
        raise NotKnownError("the LMS does not report its learners")
    return context.lms.report["learners"]


@check
class UsernamesAreFree(Check):
    """No learner waits because of a username.

    Symptom: a learner is not created: the username is taken.
    Cause: the name exists in the LMS (409 `duplicate-username`).
    Fix: another name is chosen by itself; one that can't be is shown here.
    """

    id = "ACC-1"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        count, message = _refused(context, RegistrationError.DUPLICATE_USERNAME)
        if count:
            return warning(
                f"{count} learners wait: {message}",
                cause="somebody else has their username in the LMS",
                fix=f"{_REPAIR} (chooses another name)",
            )
        return ok("nobody waits for a username")


@check
class EmailsAreFree(Check):
    """No learner waits because of an e-mail.

    Symptom: a learner is not created: the e-mail is taken.
    Cause: an LMS account with that e-mail exists and is not linked (409 `duplicate-email`).
    Fix: the operator decides whether it is the same person, and links it.
    """

    id = "ACC-2"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        count, message = _refused(
            context, RegistrationError.DUPLICATE_EMAIL, RegistrationError.DUPLICATE_EMAIL_USERNAME
        )
        if count:
            return warning(
                f"{count} learners wait: {message}",
                cause="the LMS has an account with their e-mail that is not linked to them",
                fix="when it is the same person: "
                + lms_manage("usher_link --username NAME --application NAME"),
            )
        return ok("nobody waits because of an e-mail")


@check
class NamesAreValid(Check):
    """No learner waits because of a name that the LMS refuses.

    Symptom: a learner is not created: invalid.
    Cause: the LMS refuses characters or length of a username or name (400, with its field).
    Fix: most are cleaned by themselves; the rest the learner must change.
    """

    id = "ACC-3"
    depends_on = _UP

    def probe(self, context: Context) -> Finding:
        count, message = _refused(
            context, RegistrationError.VALIDATION, RegistrationError.INVALID_COUNTRY
        )
        if count:
            return warning(
                f"{count} learners wait: {message}",
                cause="the LMS refuses what they are called",
                fix=f"correct the field in the application's admin, then {_REPAIR}",
            )
        return ok("the LMS refuses nobody's name")


@check
class IdentitiesAreUnique(Check):
    """Nobody has another's username, now or before.

    Symptom: somebody gets another's account.
    Cause: a username was changed, or given a second time.
    Fix: refused by design: names are kept for ever. When it is seen all the same, stop and look.
    """

    id = "ACC-4"

    def probe(self, context: Context) -> Finding:
        clashes = self._clashes(context)
        if clashes:
            return failed(
                f"{len(clashes)} learners: {', '.join(clashes[:3])}",
                cause="a username was changed, or given to a second learner",
                fix="look at these learners in both admins before anybody signs in as them",
            )
        if renamed := _learners(context).get("other_name", 0):
            return failed(
                f"{renamed} learners of the LMS are linked by another name than their username",
                cause="the username was changed in the LMS, or a link was edited",
                fix="look at their links (social auth) in the LMS admin",
            )
        return ok("every username is one learner's")

    def _clashes(self, context: Context) -> list[str]:
        try:
            return context.application.report.get("name_clashes", [])
        except NotKnownError:
            return []


@check
class AccountsCanSignIn(Check):
    """Linked accounts can sign in.

    Symptom: sign-in says that the account is disabled.
    Cause: its password in the LMS is unusable.
    Fix: a random one; nobody needs to know it.
    """

    id = "ACC-5"
    depends_on = ("TUT-4", "LMS-1")

    def probe(self, context: Context) -> Finding:
        count = _learners(context).get("unusable_password", 0)
        if count:
            return failed(
                f"{count} linked learners have an unusable password in the LMS",
                cause="the LMS takes that for a disabled account",
                fix=PROVISION,
                repair="provision",
            )
        return ok("no linked learner has an unusable password")
