"""The provider record in the LMS."""

import shlex

from usher.contract.oauth import BACKENDS
from usher.doctor.check import Check, Finding, check, failed, ok, quantity, skipped, warning
from usher.doctor.context import RECORD_NEXT, Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import host_of, origin
from usher.doctor.fixes import CONNECT, PROVISION, lms_manage

#: Fields of the provider record; with all of them on, sign-in asks the learner nothing.
_FLAGS = (
    "skip_hinted_login_dialog",
    "skip_registration_form",
    "skip_email_verification",
    "sync_learner_profile_data",
    "enable_sso_id_verification",
)
#: The addresses of the application in the record's ``other_settings``.
_ADDRESS_SETTINGS = ("AUTHORIZATION_URL", "ACCESS_TOKEN_URL", "API_ROOT")


@check
class ProviderIsEnabled(Check):
    """The provider record exists and is enabled.

    Symptom: sign-in answers 500; "Can't fetch setting of a disabled backend/provider." is in the
    LMS's log.
    Cause: the record is missing or disabled. In a setup by hand that is expected until the record
    is made.
    Fix: provision the LMS with `usher connect`, which creates the record.
    """

    id = "PRV-1"
    essential = True
    depends_on = ("LMS-1", "LMS-2", "APP-6")

    def probe(self, context: Context) -> Finding:
        backend = context.backend
        records = context.lms.providers(backend)
        enabled = [row for row in records if row.get("enabled")]
        if not records and context.stage == RECORD_NEXT:
            return warning(
                f"no provider record of {backend} yet, as expected before provisioning",
                cause="the LMS's settings are complete; the record has not been created yet",
                fix=PROVISION,
            )
        if not records:
            return self._failed(f"there is no provider record of {backend}")
        records_of_site = [
            row for row in records if row.get("site_id") == context.lms.site.get("id")
        ]
        if records_of_site and not records_of_site[0].get("enabled"):
            return self._failed(f"the newest provider record of {backend} is disabled")
        if not enabled:
            return self._failed(f"no provider record of {backend} is enabled")
        return ok(f"{enabled[0].get('name')} ({backend}) is enabled")

    def _failed(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the LMS has no settings for that backend, so sign-in answers 500",
            fix=PROVISION,
            repair="provision",
        )


@check
class ProviderIsOnLmsSite(Check):
    """The provider record is on the LMS's own site.

    Symptom: sign-in answers 500, as without a provider record (PRV-1).
    Cause: the record belongs to another site. The LMS has three sites; only the site of LMS_HOST,
    with its port, works.
    Fix: provision the LMS with `usher connect`, which uses the site of SITE_ID.
    """

    id = "PRV-2"
    essential = True
    depends_on = ("PRV-1",)

    def probe(self, context: Context) -> Finding:
        site, backend = context.lms.site, context.backend
        records = [row for row in context.lms.providers(backend) if row.get("enabled")]
        if not records:
            return skipped("there is no provider record yet")
        if any(row.get("site_id") == site.get("id") for row in records):
            return ok(f"it is on {site.get('domain')}, the site of SITE_ID {site.get('id')}")
        return failed(
            f"the provider record is on {records[0].get('site_domain')}, the LMS serves "
            f"{site.get('domain')}",
            cause=f"the LMS looks for it on the site of SITE_ID {site.get('id')} only",
            fix=PROVISION,
            repair="provision",
        )


@check
class ProviderHasAddresses(Check):
    """The provider record has the application's addresses.

    Symptom: the browser is sent to the address `None`, or nowhere.
    Cause: other_settings of the record are empty, or not JSON.
    Fix: provision the LMS with `usher connect`, which writes the addresses.
    """

    id = "PRV-3"
    essential = True
    depends_on = ("PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        if not context.lms.providers(context.backend):
            return skipped("there is no provider record yet")
        record = context.lms.provider(context.backend)
        if error := record.get("other_settings_error"):
            return self._failed(f"other_settings of the provider record is not valid JSON: {error}")
        values = record.get("other_settings") or {}
        if values.get("DISCOVERY_URL"):
            return ok("it has the application's discovery address")
        if missing := [name for name in _ADDRESS_SETTINGS if not values.get(name)]:
            return self._failed(f"other_settings of the provider record lacks {', '.join(missing)}")
        return ok(f"it leads to {values['AUTHORIZATION_URL']}")

    def _failed(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the LMS does not know the application's addresses",
            fix=PROVISION,
            repair="provision",
        )


@check
class ProviderSkipsForms(Check):
    """The provider record asks learners nothing.

    Symptom: the learner sees a form or a dialog during sign-in.
    Cause: the "skip" flags of the record are off.
    Fix: provision the LMS with `usher connect`, which sets the flags.
    """

    id = "PRV-4"
    depends_on = ("PRV-1", "PRV-2", "LMS-5")

    def probe(self, context: Context) -> Finding:
        if not context.lms.providers(context.backend):
            return skipped("there is no provider record yet")
        record = context.lms.provider(context.backend)
        off = [name for name in _FLAGS if record.get(name) is False]
        if off:
            return failed(
                f"{', '.join(off)} {'is' if len(off) == 1 else 'are'} off in the provider record",
                cause="somebody changed the record in the LMS admin",
                fix=PROVISION,
                repair="provision",
            )
        return ok("all flags of the record are on")


@check
class ClientCredentialsMatch(Check):
    """The application and the LMS have the same client id and secret.

    Symptom: `invalid_client` in the LMS's log.
    Cause: the id or the secret differs. Somebody may have copied the hash of the secret into the
    LMS, because the application's admin shows the hash instead of the secret. Or the application's
    SECRET_KEY was changed: Usher hashes the secret with that key.
    Fix: provision the LMS with `usher connect`, which writes the same secret to the application and
    the LMS. If SECRET_KEY was changed by mistake, restore it first.
    """

    id = "PRV-5"
    essential = True
    depends_on = ("NET-2",)

    def probe(self, context: Context) -> Finding:
        for probe in context.lms.report.get("token_probes", []):
            if probe.get("backend_name") != context.backend:
                continue
            if probe.get("oauth_error") == "invalid_client" or probe.get("status") == 401:
                return failed(
                    "the application refuses the LMS's client id and secret (invalid_client)",
                    cause="the LMS has another id or secret, or only the secret's hash; or the "
                    "application hashes the secret with its SECRET_KEY, which was changed",
                    fix=CONNECT,
                    repair="provision",
                )
            if probe.get("oauth_error") == "invalid_grant":
                return ok("the application knows the LMS's client id and secret")
            return skipped(f"the token endpoint answers {probe.get('status')}")
        raise NotKnownError("the LMS did not try its client id and secret")


@check
class LinksUseThisBackend(Check):
    """Learners are linked by the sign-in backend in use.

    Symptom: learners who signed in before can't sign in to the LMS.
    Cause: the backend's name was changed, and links of accounts are kept by that name.
    Fix: run `usher_move_links` in the LMS, as the finding shows it; it moves the links to the new
    name.
    """

    id = "PRV-6"
    depends_on = ("PRV-1", "PRV-2", "APP-6")

    def probe(self, context: Context) -> Finding:
        counts = context.lms.report.get("learners", {}).get("by_backend")
        if counts is None:
            raise NotKnownError("the LMS does not report links by backend")
        connected = {row.get("backend") for row in context.lms.report.get("connections", [])}
        providers = context.lms.report.get("providers", [])
        enabled = {row.get("backend_name") for row in providers if row.get("enabled")}
        in_use = connected | {context.backend}
        # Wrong are links of a disabled backend, and those of Usher's other backend even if it is
        # enabled. Another enabled backend, such as Google's, rightly has links of its own.
        wrong_names = [
            name
            for name in counts
            if name not in in_use and (name in BACKENDS or name not in enabled)
        ]
        other_links = {
            name: counts[name]
            for name in wrong_names
            if not _belongs_to_another_application(name, context)
        }
        if not other_links:
            linked = counts.get(context.backend, 0)
            learners = quantity(linked, "learner is", "learners are")
            return ok(f"{learners} linked by {context.backend}")
        name, count = max(other_links.items(), key=lambda item: item[1])
        names_of_backends = f"--from {shlex.quote(str(name))} --to {shlex.quote(context.backend)}"
        return failed(
            f"{quantity(count, 'learner is', 'learners are')} linked by {name}, and sign-in uses "
            f"{context.backend}",
            cause="the backend was changed after they had signed in",
            fix=lms_manage(f"usher_move_links {names_of_backends}"),
        )


def _belongs_to_another_application(name: str, context: Context) -> bool:
    """Whether the provider record of that backend leads to another application, for example to one
    that was disconnected. Then the links by that backend must not be moved: learners of this
    application would get accounts of the other application's learners. The record of a renamed
    backend leads to this application."""
    other_origins, own_origins = _origins(name, context), _origins(context.backend, context)
    if not (other_origins and own_origins):
        return False
    return other_origins.isdisjoint(own_origins)


def _origins(name: str, context: Context) -> set[tuple[str, str, int]]:
    """Scheme, host and port of the application's addresses in the provider record."""
    origins: set[tuple[str, str, int]] = set()
    for row in context.lms.report.get("providers", []):
        if row.get("backend_name") == name:
            settings = row.get("other_settings") or {}
            origins |= {origin(str(value)) for value in settings.values() if host_of(str(value))}
    return origins
