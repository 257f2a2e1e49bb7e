"""Builds the report. A fact that raises an exception is listed as missing; all other facts are
reported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from django.utils import timezone

from usher.contract.report import VERSION, LmsReport
from usher.lms import conf
from usher.lms.connections.models import ConnectedApplication
from usher.lms.reporting import database, packages, records, settings

log = logging.getLogger(__name__)


def report(*, probe: bool = True, caller: ConnectedApplication | None = None) -> LmsReport:
    """The report, see ``contract.report``.

    probe: try each application's token endpoint, which takes up to 30 seconds when nothing answers.
    caller: the application whose service worker asks; the report then has no fingerprints of
    other applications' secrets. None for an operator.
    """
    facts: dict[str, Callable[[], Any]] = {
        "release": lambda: conf.platform().release(),
        "settings": settings.settings_by_name,
        "features": settings.features,
        "backends": settings.backends,
        "private_settings": settings.private_settings,
        "sites": records.sites,
        "providers": records.providers,
        "oauth_clients": records.oauth_clients,
        "login_service": records.login_service_exists,
        "service_worker": lambda: records.service_worker(caller),
        "learners": lambda: records.learners(caller),
        "learner_home": records.learner_home,
        "direct_registration": records.direct_registration,
        "connections": records.connections,
        "short_uuid_columns": database.short_uuid_columns,
        "packages": packages.versions,
        "package_conflicts": packages.conflicts,
        "packages_outside_image": packages.find_outside_image,
    }
    if probe:
        facts["token_probes"] = records.probe_token_endpoints
    result: dict[str, Any] = {"version": VERSION, "time": timezone.now().isoformat()}
    for name, fact in facts.items():
        try:
            result[name] = fact()
        except Exception as error:  # noqa: BLE001 - a broken LMS is what the report is for
            log.warning("%s is missing in the report: %s", name, error)
            result.setdefault("missing", {})[name] = f"{type(error).__name__}: {error}"
    if caller is not None:
        _blank_secrets_of_others(result, caller)
    return cast(LmsReport, result)


def _blank_secrets_of_others(facts: dict[str, Any], caller: ConnectedApplication) -> None:
    """Blank the fingerprints of other applications' secrets: a caller could check guesses of the
    secrets against them."""
    fingerprints_of_secrets = (
        ("providers", "backend_name", caller.backend, "secret_fingerprint"),
        ("oauth_clients", "client_id", caller.oauth_client_id, "secret_fingerprint"),
        ("connections", "name", caller.name, "webhook_secret_fingerprint"),
    )
    for fact_name, key_name, own_value, fingerprint_name in fingerprints_of_secrets:
        for row in facts.get(fact_name, []):
            if row[key_name] != own_value:
                row[fingerprint_name] = ""
