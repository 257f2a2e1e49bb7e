"""Settings and sign-in of the LMS."""

from typing import Any

from usher.contract.oauth import BACKENDS
from usher.contract.paths import LmsPath
from usher.doctor.check import (
    Check,
    Finding,
    check,
    failed,
    not_applicable,
    note,
    ok,
    quantity,
    warning,
)
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.fixes import LMS_LOGS, LMS_SETTINGS, PROVISION

#: Checks of Tutor whose failure explains wrong settings of the LMS.
_TUTOR_CHECKS = ("TUT-2", "TUT-3", "TUT-4", "TUT-5", "TUT-7", "TUT-8")


@check
class ThirdPartyAuthIsOn(Check):
    """Third-party sign-in is enabled in the LMS.

    Symptom: the LMS's own sign-in page, with no hint of the application.
    Cause: `ENABLE_THIRD_PARTY_AUTH` is off in the LMS.
    Fix: enable the Tutor plugin, which sets it.
    """

    id = "LMS-1"
    essential = True
    depends_on = _TUTOR_CHECKS

    def probe(self, context: Context) -> Finding:
        if not context.lms.feature("ENABLE_THIRD_PARTY_AUTH"):
            return failed(
                "ENABLE_THIRD_PARTY_AUTH is off in the LMS",
                cause="the plugin's settings are not in use, or USHER_SIGN_IN is false",
                fix=LMS_SETTINGS,
            )
        return ok("ENABLE_THIRD_PARTY_AUTH is on")


@check
class BackendIsKnown(Check):
    """The LMS has the sign-in backend of its provider record.

    Symptom: KeyError, or 404 at `/auth/login/<backend>/`.
    Cause: the backend's class is not among AUTHENTICATION_BACKENDS, which production settings
    build from THIRD_PARTY_AUTH_BACKENDS in `lms.env.yml`.
    Fix: enable the Tutor plugin, which sets both.
    """

    id = "LMS-2"
    essential = True
    depends_on = ("LMS-1", "APP-6")

    def probe(self, context: Context) -> Finding:
        backend_names = {row.get("name") for row in context.lms.report.get("backends", [])}
        backend = BACKENDS.get(context.backend)
        configured = context.lms.setting("AUTHENTICATION_BACKENDS")
        if context.backend in backend_names or (backend and backend.class_path in configured):
            return ok(f"{context.backend} is among AUTHENTICATION_BACKENDS")
        if backend is None:
            return not_applicable(f"{context.backend} is a backend of your own")
        return failed(
            f"{backend.class_path} is not among AUTHENTICATION_BACKENDS of the LMS",
            cause="the plugin's settings are not in use, or other settings replace the list",
            fix=LMS_SETTINGS,
        )


@check
class SignInLeadsToApplication(Check):
    """The LMS's sign-in page leads to the application.

    Symptom: the micro-frontend's sign-in page instead of the redirect.
    Cause: `ENABLE_AUTHN_MICROFRONTEND` is on (tutor-mfe sets it), and no setting points to the
    application.
    Fix: enable the Tutor plugin, which overrides tutor-mfe.
    """

    id = "LMS-3"
    depends_on = ("LMS-1", "LMS-2", "PRV-1", "PRV-2", "PRV-3")

    def probe(self, context: Context) -> Finding:
        if not context.lms.feature("ENABLE_AUTHN_MICROFRONTEND"):
            return ok("the sign-in micro-frontend is off")
        answer = context.lms.get(LmsPath.LOGIN)
        target = answer.headers.get("location", "")
        if LmsPath.sign_in_start(context.backend) in target:
            return ok("/login leads to the application")
        return failed(
            f"/login leads to {target or 'its own page'}, ENABLE_AUTHN_MICROFRONTEND is on",
            cause="the micro-frontend's plugin sets it, and THIRD_PARTY_AUTH_HINT is not set",
            fix=LMS_SETTINGS,
        )


@check
class RegistrationHasNoExtraFields(Check):
    """No extra required fields in LMS registration.

    Symptom: a form asks for the country, or for the terms.
    Cause: REGISTRATION_EXTRA_FIELDS does not hide them.
    Fix: enable the Tutor plugin, which hides them.
    """

    id = "LMS-4"
    depends_on = ("LMS-1",)

    def probe(self, context: Context) -> Finding:
        fields = context.lms.setting("REGISTRATION_EXTRA_FIELDS") or {}
        required = [name for name in ("country", "terms_of_service") if _is_shown(fields, name)]
        if required:
            return failed(
                f"REGISTRATION_EXTRA_FIELDS shows {' and '.join(required)}",
                cause="the LMS asks learners for data that the application already has",
                fix=LMS_SETTINGS,
            )
        return ok("country and terms_of_service are hidden")


def _is_shown(fields: dict[str, Any], name: str) -> bool:
    return fields.get(name, "hidden") != "hidden"


@check
class EmailIsConfirmedOnce(Check):
    """Learners do not have to confirm their e-mail address twice.

    Symptom: the LMS asks to confirm the e-mail address.
    Cause: SKIP_EMAIL_VALIDATION is off, or skip_email_verification of the provider record is.
    Fix: enable the Tutor plugin, which sets SKIP_EMAIL_VALIDATION, and provision the LMS with
    `usher connect`, which sets the record's field.
    """

    id = "LMS-5"
    depends_on = ("LMS-1", "PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        if not context.lms.feature("SKIP_EMAIL_VALIDATION"):
            return failed(
                "SKIP_EMAIL_VALIDATION is off in the LMS",
                cause="the plugin's settings are not in use",
                fix=LMS_SETTINGS,
            )
        if not context.lms.provider(context.backend).get("skip_email_verification", True):
            return failed(
                "skip_email_verification is off in the provider record",
                cause="somebody changed the record in the LMS admin",
                fix=PROVISION,
                repair="provision",
            )
        return ok("neither the LMS nor the record asks to confirm e-mail")


@check
class RegistrationIsNotRateLimited(Check):
    """The LMS lets the application create many accounts.

    Symptom: 403 `forbidden-request` after some sixty accounts.
    Cause: the platform limits registrations to 60 in 7 days from one IP address.
    Fix: enable the Tutor plugin, which exempts the application's requests.
    """

    id = "LMS-6"
    depends_on = ("LMS-1",)

    def probe(self, context: Context) -> Finding:
        forbidden = _count_forbidden(context)
        rate = str(context.lms.setting("REGISTRATION_RATELIMIT"))
        if forbidden:
            return failed(
                f"the LMS refused {forbidden} accounts with forbidden-request; its limit is {rate}",
                cause="REGISTRATION_RATELIMIT counts all registrations by the application together",
                fix=LMS_SETTINGS,
            )
        if rate == _DEFAULT_RATE:
            return warning(
                f"REGISTRATION_RATELIMIT is {rate}",
                cause="the platform's default: the sixty-first account of a week is refused",
                fix=LMS_SETTINGS,
            )
        return ok(f"REGISTRATION_RATELIMIT is {rate}")


#: The platform's default of REGISTRATION_RATELIMIT: 60 registrations in 7 days.
_DEFAULT_RATE = "60/7d"


def _count_forbidden(context: Context) -> int:
    """The number of accounts that the LMS refused because of its limit; 0 if it is not known."""
    try:
        rows = context.application.refusals("account", "forbidden-request")
    except NotKnownError:
        return 0
    return sum(row.get("count", 0) for row in rows)


@check
class LoginServiceClientExists(Check):
    """The LMS has its own login-service client.

    Symptom: every sign-in answers 500.
    Cause: the OAuth client `login-service-client-id`, which sign-in cookies need, is missing.
    Fix: run Tutor's initialization, which creates it.
    """

    id = "LMS-7"
    depends_on = _TUTOR_CHECKS

    def probe(self, context: Context) -> Finding:
        if "login_service" not in context.lms.report:
            raise NotKnownError("the LMS does not report its login service")
        if context.lms.report["login_service"]:
            return ok("the OAuth client login-service-client-id is there")
        return failed(
            "the OAuth client login-service-client-id is missing",
            cause="the LMS was not initialized to the end, or the client was deleted",
            fix=PROVISION,
            repair="provision",
        )


@check
class AdminWorks(Check):
    """The LMS's admin works.

    Symptom: the LMS's admin answers 500 after sign-in was set up.
    Cause: the backend can't be imported, or its provider record is wrong, so every page with
    sign-in fails.
    Fix: `usher disconnect` restores the LMS's own sign-in; then read the LMS's log.
    """

    id = "LMS-8"
    depends_on = ("NET-1", "NET-6", "TUT-5", "TUT-7", "LMS-2")

    def probe(self, context: Context) -> Finding:
        answer = context.lms.get("/admin/")
        target = answer.headers.get("location", "")
        if answer.is_redirect and target.startswith("/"):  # to the admin's sign-in page
            answer = context.lms.get(target)
        if answer.status_code >= 500:
            return failed(
                f"the LMS admin answers {answer.status_code}",
                cause="sign-in fails inside the LMS, because of a backend or a provider record",
                fix=f"{LMS_LOGS}; to restore the LMS's own sign-in: usher disconnect",
            )
        return ok(f"the LMS admin answers {answer.status_code}")


@check
class LearnerHomeIsRecognised(Check):
    """Doctor recognises the page after sign-in.

    Symptom: another test tool reports that sign-in failed, although the learner is signed in.
    Cause: the learner dashboard is a micro-frontend, outside of the LMS (Tutor's default).
    Fix: none is needed: doctor asks the LMS whether the learner is signed in.
    """

    id = "LMS-9"
    depends_on = ("LMS-1",)

    def probe(self, context: Context) -> Finding:
        home = context.lms.report.get("learner_home")
        if home is None:
            raise NotKnownError("the LMS does not report the page after sign-in")
        if not home.get("micro_frontend"):
            return ok(f"sign-in ends at the LMS's own {LmsPath.DASHBOARD}")
        return note(
            f"sign-in ends at the micro-frontend {home.get('url')}",
            cause="that is Tutor's default; doctor asks the LMS whether the learner is signed in",
        )


@check
class OnlyApplicationCreatesAccounts(Check):
    """Only the application creates accounts.

    Symptom: somebody else has a learner's username or e-mail address in the LMS.
    Cause: people can register in the LMS directly, because USHER_DIRECT_REGISTRATION is on or
    USHER_BACKENDS names no application.
    Fix: correct that setting of the LMS, and restart the LMS.
    """

    id = "LMS-10"
    depends_on = ("LMS-1",)

    def probe(self, context: Context) -> Finding:
        if not context.lms.report.get("connections"):
            raise NotKnownError("the LMS does not report a connected application")
        is_open = context.lms.report.get("direct_registration")
        if is_open is None:
            raise NotKnownError("the LMS does not report whether people can register there")
        if not is_open:
            return ok("people can't register in the LMS itself")
        if context.lms.setting("USHER_BACKENDS"):
            cause = "USHER_DIRECT_REGISTRATION is on"
            fix = f"remove USHER_DIRECT_REGISTRATION from its settings, then {LMS_SETTINGS}"
        else:
            cause = "USHER_BACKENDS names no application, so usher.lms refuses no registration"
            fix = LMS_SETTINGS
        return warning("anybody can register in the LMS itself", cause=cause, fix=fix)


@check
class UuidColumnsFit(Check):
    """The LMS's database has the column types that its Django uses.

    Symptom: no enrollment can be written: "The LMS could not save this enrollment"; in the LMS's
    log `Data too long for column 'history_id'`.
    Cause: the database is MariaDB 10.7 or newer and was made with Django 4.2. Django 5 uses another
    column type for UUIDs there, and no migration converts existing columns.
    Fix: convert the columns that the finding names. MySQL is not affected.
    """

    id = "LMS-11"
    depends_on = _TUTOR_CHECKS

    def probe(self, context: Context) -> Finding:
        if "short_uuid_columns" not in context.lms.report:
            raise NotKnownError("the LMS does not report the columns of its database")
        # The history of enrollments first: without it, no enrollment can be written.
        columns = sorted(
            context.lms.report["short_uuid_columns"],
            key=lambda column: column["table"] != _ENROLLMENT_HISTORY,
        )
        if not columns:
            return ok("no column for UUIDs is too short")
        names = [f"{column['table']}.{column['column']}" for column in columns]
        statements = []
        for column in columns:
            not_null = "" if column["null"] else " NOT NULL"
            statements.append(
                f"ALTER TABLE {column['table']} MODIFY {column['column']} uuid{not_null};"
            )
        more = f" and {len(names) - _MAX_SHOWN} more" if names[_MAX_SHOWN:] else ""
        return failed(
            f"{quantity(len(names), 'column is', 'columns are')} too short for the UUIDs that "
            f"Django writes: {', '.join(names[:_MAX_SHOWN])}{more}",
            cause="Django 4.2 made these columns on MariaDB, and the LMS runs Django 5 now, which "
            "has another column type for UUIDs",
            fix=f"back up the LMS's database, then run in it: {' '.join(statements)}",
        )


_ENROLLMENT_HISTORY = "student_courseenrollment_history"
_MAX_SHOWN = 3
