"""Provisions the provider record: how the LMS signs learners in with an application."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.contrib.sites.models import Site
from django.db import transaction

from usher.contract.provisioning import Application
from usher.lms import conf
from usher.lms.connections.models import ProviderVersion
from usher.lms.errors import ProvisioningError
from usher.lms.provisioning.result import Item, ProvisioningResult, assign

#: The width of the platform's ``slug`` column, the narrowest column that stores the name.
NAME_LENGTH = 30


def current_record(site: Site, backend: str) -> Any | None:
    """The current version, which is the newest for this site and backend; None if there is none."""
    rows = conf.platform().provider_model().objects.filter(site=site, backend_name=backend)
    return rows.order_by("-change_date", "-pk").first()


def delete_cached_records_after_commit(site: Site, applications: Iterable[Application]) -> None:
    """After the commit, delete all cached provider records of the site, also if nothing changes: an
    earlier run may have been killed after its commit. Sign-in would then use the cached records
    until they expire. Call it before the first change."""
    rows = conf.platform().provider_model().objects.filter(site=site)
    backends = {*rows.values_list("backend_name", flat=True)}
    backends |= {application.backend for application in applications}

    def delete_cached_records() -> None:
        for backend in backends:
            conf.platform().delete_cached_provider(site.pk, backend)

    transaction.on_commit(delete_cached_records)


def provision_provider(spec: Application, site: Site, outcome: ProvisioningResult) -> None:
    """Add a new version of the record if anything differs. Raises ProvisioningError for a backend
    name that is too long."""
    if len(spec.backend) > NAME_LENGTH:
        raise ProvisioningError(
            f"backend name {spec.backend!r} is longer than the {NAME_LENGTH} characters that "
            "Open edX keeps; choose a shorter one"
        )
    record = current_record(site, spec.backend)
    created = record is None
    if record is None:
        record = conf.platform().provider_model()(site=site, backend_name=spec.backend)
    changes = assign(record, _fields(spec))
    if _parse_settings(record.other_settings) != _other_settings(spec):
        record.other_settings = json.dumps(_other_settings(spec), indent=4)
        changes.append("other_settings")
    if changes:
        _save_version(record)
    outcome.add_item("provider record", spec.backend, changes, created=created)


def _fields(spec: Application) -> dict[str, Any]:
    return {
        "enabled": True,
        "name": spec.provider_name,
        "slug": spec.backend,
        "visible": True,
        "skip_hinted_login_dialog": True,
        "skip_registration_form": True,
        "skip_email_verification": True,
        "sync_learner_profile_data": True,
        "enable_sso_id_verification": True,
        "key": spec.client_id,
        "secret": spec.client_secret,
    }


def _other_settings(spec: Application) -> dict[str, str]:
    addresses = {
        "AUTHORIZATION_URL": spec.authorization_url,
        "ACCESS_TOKEN_URL": spec.access_token_url,
        "API_ROOT": spec.api_root,
        "DISCOVERY_URL": spec.discovery_url,
    }
    return {name: address for name, address in addresses.items() if address}


def _parse_settings(text: str) -> Any:
    """The parsed settings; None if the text is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _save_version(record: Any) -> None:
    """Save a new version of the record, and record that provisioning created it."""
    record.pk = None  # so that ``save`` inserts a row
    record.changed_by = None
    record.save()
    ProviderVersion.objects.update_or_create(record_id=record.pk)


def remove_provider(
    spec: Application, site: Site, outcome: ProvisioningResult, *, purge: bool
) -> None:
    """Disable the provider by adding a version. purge: add no version; instead delete the versions
    that provisioning created, so that the previous version is current again."""
    if purge:
        _delete_versions(site, spec.backend, outcome)
        return
    record = current_record(site, spec.backend)
    if record is not None and record.enabled:
        record.enabled = False
        _save_version(record)
        outcome.add_item("provider record", spec.backend, ["enabled"])


def _delete_versions(site: Site, backend: str, outcome: ProvisioningResult) -> None:
    """Delete the versions that provisioning created, so that the one before is current again."""
    provisioned_ids = list(ProviderVersion.objects.values_list("record_id", flat=True))
    rows = conf.platform().provider_model().objects
    own_versions = rows.filter(site=site, backend_name=backend, pk__in=provisioned_ids)
    ids = list(own_versions.values_list("pk", flat=True))
    if not ids:
        return
    own_versions.delete()
    ProviderVersion.objects.filter(record_id__in=ids).delete()
    outcome.items.append(Item("provider record", backend, "removed"))
