"""Learners' accounts in the LMS."""

from usher.contract.failures import RegistrationError
from usher.contract.report import Learners
from usher.contract.temporary_learners import is_temporary_learner
from usher.doctor.check import Check, Finding, check, failed, ok, quantity, warning
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import PROVISION, manage

_REPAIR_COMMAND = manage("repair_missing_courseware_records")
_ADOPT_COMMAND = manage("adopt_users --to users.csv")
#: Checks of the sync worker, which finds out what the LMS refuses.
_SYNC_WORKER_CHECKS = ("OPS-1", "OPS-2", "OPS-3")


def _waiting_count_and_message(context: Context, *codes: str) -> tuple[int, str]:
    """The number of learners whom the LMS refuses with one of these codes, and the LMS's message
    about one of these learners."""
    rows = context.application.refusals("account", *codes)
    message = next((f"{row.get('sample', '')}: {row.get('message', '')}" for row in rows), "")
    return sum(row.get("count", 0) for row in rows), message[:160]


def _learners(context: Context) -> Learners:
    """The LMS's report about its learners. Raises NotKnownError."""
    if "learners" not in context.lms.report:
        raise NotKnownError("the LMS does not report its learners")
    return context.lms.report["learners"]


@check
class NoUsernameIsRefused(Check):
    """No learner waits because of a username.

    Symptom: a learner is not created: the username is taken.
    Cause: the name exists in the LMS (409 `duplicate-username`).
    Fix: Usher chooses another name automatically. The finding lists the learners for whom it can't.
    """

    id = "ACC-1"
    depends_on = _SYNC_WORKER_CHECKS

    def probe(self, context: Context) -> Finding:
        count, message = _waiting_count_and_message(context, RegistrationError.DUPLICATE_USERNAME)
        if count:
            return warning(
                f"{quantity(count, 'learner waits', 'learners wait')} because of a username: "
                f"{message}",
                cause="somebody else has their username in the LMS",
                fix=f"{_REPAIR_COMMAND} (chooses another name)",
            )
        return ok("no learner waits because of a username")


@check
class NoEmailIsRefused(Check):
    """No learner waits because of an e-mail.

    Symptom: a learner is not created: the e-mail is taken.
    Cause: an LMS account with that e-mail exists and is not linked (409 `duplicate-email`).
    Fix: if it is the same person, link the account with `manage.py adopt_users`. If not, one of the
    two has to get another e-mail address, in the LMS or in the application.
    """

    id = "ACC-2"
    depends_on = _SYNC_WORKER_CHECKS

    def probe(self, context: Context) -> Finding:
        count, message = _waiting_count_and_message(
            context, RegistrationError.DUPLICATE_EMAIL, RegistrationError.DUPLICATE_EMAIL_USERNAME
        )
        if count:
            return warning(
                f"{quantity(count, 'learner waits', 'learners wait')} because of an e-mail: "
                f"{message}",
                cause="the LMS has an account with their e-mail that is not linked to them",
                fix=f"if it is the same person, link the account: {_ADOPT_COMMAND}",
            )
        return ok("no learner waits because of an e-mail")


@check
class NoNameIsRefused(Check):
    """No learner waits because of a name that the LMS refuses.

    Symptom: a learner is not created: a field is invalid.
    Cause: the LMS refuses characters or length of a username or name (400, with its field).
    Fix: Usher corrects most names automatically. The learner must change the others.
    """

    id = "ACC-3"
    depends_on = _SYNC_WORKER_CHECKS

    def probe(self, context: Context) -> Finding:
        count, message = _waiting_count_and_message(
            context, RegistrationError.VALIDATION, RegistrationError.INVALID_COUNTRY
        )
        if count:
            return warning(
                f"{quantity(count, 'learner waits', 'learners wait')} because of a name: {message}",
                cause="the LMS does not accept their username, name or country",
                fix=f"correct the field in the application's admin, then {_REPAIR_COMMAND}",
            )
        return ok("no learner waits because of a name")


@check
class UsernamesAreUnique(Check):
    """Each learner has a username of their own, now and earlier, and the same one in the LMS.

    Symptom: a learner gets another learner's account.
    Cause: a username was changed, or given to a second learner.
    Fix: compare both learners before either signs in, and give the username back to the one who had
    it first. Usher itself never reuses a username.
    """

    id = "ACC-4"

    def probe(self, context: Context) -> Finding:
        clashes = self._clashes(context)
        if clashes:
            return failed(
                f"{quantity(len(clashes), 'username is', 'usernames are')} reserved for another "
                f"learner: {', '.join(clashes[:3])}",
                cause="a username was changed, or given to a second learner",
                fix="compare these learners in both admins before anybody signs in as them, and "
                "give the username back to the learner who had it first",
            )
        learners = _learners(context)
        if learners.get("other_name", 0):
            sentences = [
                f"{uid} is called {name} in the LMS" for uid, name in learners.get("renamed", [])
            ]
            count_text = quantity(learners["other_name"], "learner has", "learners have")
            return failed(
                "; ".join(sentences[:3]) or f"{count_text} another username in the LMS",
                cause="the username was changed in the LMS, or a link was edited",
                fix="in the LMS's admin, restore the username, or the uid of the learner's "
                "user social auth record",
            )
        return ok("every linked learner has the same username in the LMS")

    def _clashes(self, context: Context) -> list[str]:
        """Usernames that two learners have or had; empty if the application does not report it."""
        try:
            return context.application.report.get("name_clashes", [])
        except NotKnownError:
            return []


@check
class AccountsCanSignIn(Check):
    """Linked accounts can sign in.

    Symptom: sign-in says that the account is disabled.
    Cause: its password in the LMS is unusable.
    Fix: set a random password, which nobody needs to know.
    """

    id = "ACC-5"
    depends_on = ("TUT-4", "LMS-1")

    def probe(self, context: Context) -> Finding:
        count = _learners(context).get("unusable_password", 0)
        if count:
            return failed(
                f"{quantity(count, 'linked learner has', 'linked learners have')} an unusable "
                "password in the LMS",
                cause="the LMS treats an account with an unusable password as disabled",
                fix=PROVISION,
                repair="provision",
            )
        return ok("no linked learner has an unusable password")


@check
class AccountsAreActive(Check):
    """No account was deactivated in the LMS.

    Symptom: a learner is signed out without a message and can't sign in again.
    Cause: the LMS's staff deactivated the account. Usher does not activate it again.
    Fix: decide: activate the account in the LMS, or deactivate the learner in the application.
    """

    id = "ACC-6"
    depends_on = ("TUT-4", "LMS-1")

    def probe(self, context: Context) -> Finding:
        inactive_in_lms = self._inactive_in_lms(context)
        report = context.application.report
        known_to_application = report.get("deactivated_in_lms", [])
        # What the application has last seen may be out of date, so the LMS's own list comes first.
        inactive_accounts = known_to_application if inactive_in_lms is None else inactive_in_lms
        rightly_inactive = set(report.get("inactive_accounts", []))
        unexpected = set(inactive_accounts) - rightly_inactive
        deactivated_accounts = sorted(name for name in unexpected if not is_temporary_learner(name))
        if deactivated_accounts:
            first, *others = deactivated_accounts
            names = f"{first} and {len(others)} more" if others else first
            # The message says "active here" only for accounts that the application reports: the LMS
            # may also name accounts of an application's deleted database, and an application
            # without Usher does not report which learners are active.
            suffix = " and active here" if first in known_to_application else ""
            return warning(
                f"deactivated in the LMS{suffix}: {names}",
                cause="the LMS's staff deactivated these accounts",
                fix="decide: in the LMS's admin activate the account, or in the application's "
                "admin deactivate the learner",
            )
        if inactive_in_lms is None:
            raise NotKnownError("the LMS does not report inactive accounts")
        return ok("no account was deactivated in the LMS")

    def _inactive_in_lms(self, context: Context) -> list[str] | None:
        """LMS usernames of inactive accounts; None if the LMS does not report them."""
        try:
            return _learners(context).get("inactive")
        except NotKnownError:
            return None


@check
class UsernamesHideEmails(Check):
    """Usernames in the LMS do not show e-mail addresses.

    Symptom: other learners see a learner's e-mail address in forums and on leader boards.
    Cause: the LMS username was made from the e-mail address that the learner signs in with.
    Fix: choose another username strategy for new learners; existing usernames stay.
    """

    id = "ACC-7"

    def probe(self, context: Context) -> Finding:
        usernames = context.application.report.get("email_usernames")
        if usernames is None:
            raise NotKnownError("the application does not report how usernames are made")
        if usernames:
            return warning(
                f"{len(usernames)} of the newest usernames are e-mail addresses, such as "
                f"{usernames[0]}",
                cause="people sign in with their e-mail address, and usernames are made from it",
                fix="set USHER_ADAPTER to a subclass of usher.application.adapter.DefaultAdapter "
                "whose lms_username() returns another name; existing usernames stay "
                "as they are",
            )
        return ok("none of the newest usernames shows an e-mail address")
