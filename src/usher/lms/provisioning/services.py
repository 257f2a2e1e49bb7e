"""Provisions or removes everything in one description, in one transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.conf import settings
from django.contrib.sites.models import Site
from django.db import transaction

from usher.contract.fingerprints import fingerprint
from usher.contract.provisioning import Application, Description, ServiceWorker
from usher.lms import conf
from usher.lms.accounts.moving import move_links
from usher.lms.connections.models import ConnectedApplication
from usher.lms.errors import ProvisioningError
from usher.lms.provisioning import clients, providers, service_clients, users
from usher.lms.provisioning.result import Item, ProvisioningResult, assign
from usher.lms.transactions import run_for_command


def provision(description: Description, *, dry_run: bool = False) -> ProvisioningResult:
    """Update this LMS from ``description``, changing only what differs.

    Raises UsherLmsError; then, and with ``dry_run``, nothing has been changed.
    """
    return run_for_command(lambda: _provision(description, dry_run=dry_run))


def _provision(description: Description, *, dry_run: bool) -> ProvisioningResult:
    """``provision``, to be called inside a transaction, which ``dry_run`` rolls back."""
    outcome = ProvisioningResult(dry_run=dry_run)
    site = find_site(description.site)
    providers.delete_cached_records_after_commit(site, description.applications)
    if description.superuser:
        users.provision_superuser(description.superuser, outcome)
    clients.provision_login_service(outcome)
    for application in description.applications:
        worker = description.service_worker_of(application.name)
        _provision_application(application, worker, site, outcome)
    transaction.set_rollback(dry_run)
    return outcome


def remove(
    description: Description, *, purge: bool = False, dry_run: bool = False
) -> ProvisioningResult:
    """Remove what ``provision`` created. Learners, their accounts and enrollments stay, and so does
    the superuser.

    purge: also delete accounts and provider versions that are only disabled without ``purge``.
    Raises UsherLmsError; then, and with ``dry_run``, nothing has been changed.
    """
    return run_for_command(lambda: _remove(description, purge=purge, dry_run=dry_run))


def _remove(description: Description, *, purge: bool, dry_run: bool) -> ProvisioningResult:
    """``remove``, to be called inside a transaction, which ``dry_run`` rolls back."""
    outcome = ProvisioningResult(dry_run=dry_run)
    site = find_site(description.site)
    providers.delete_cached_records_after_commit(site, description.applications)
    for application in description.applications:
        providers.remove_provider(application, site, outcome, purge=purge)
        connected = ConnectedApplication.objects.filter(name=application.name).first()
        if connected is not None:
            service_clients.remove_service_clients(connected, outcome, purge=purge)
        if worker := description.service_worker_of(application.name):
            users.remove_service_worker(worker, outcome, purge=purge)
        if connected is not None:
            clients.remove_client(connected, outcome)
            connected.delete()
            outcome.items.append(Item("application", application.name, "removed"))
    # A description without applications may still name a service worker.
    if description.service_worker and not description.applications:
        users.remove_service_worker(description.service_worker, outcome, purge=purge)
    transaction.set_rollback(dry_run)
    return outcome


def find_site(domain: str) -> Site:
    """The site with this domain. '' means the site of ``SITE_ID``, the only site whose provider
    records are used at sign-in. Raises ProvisioningError."""
    if not domain:
        return Site.objects.get(pk=settings.SITE_ID)
    site = Site.objects.filter(domain=domain).first()
    if site is None:
        domains = ", ".join(Site.objects.order_by("pk").values_list("domain", flat=True))
        raise ProvisioningError(
            f"this LMS has no site {domain!r}, only: {domains}; name one of them, or leave it out"
        )
    return site


def _provision_application(
    spec: Application, worker: ServiceWorker | None, site: Site, outcome: ProvisioningResult
) -> None:
    """Create or update all records of one application. worker: None if the description names none
    for it. Raises ProvisioningError."""
    _refuse_backend_of_another(spec)
    providers.provision_provider(spec, site, outcome)
    client, adopted = clients.provision_client(spec, outcome)
    application = _record_connection(spec, client, site, outcome, adopted=adopted)
    if worker is not None:
        users.provision_service_worker(worker, application, client, outcome)
    service_clients.provision_service_clients(spec, application, outcome)
    _warn_about_lms_settings(spec, site, outcome)


def _refuse_backend_of_another(spec: Application) -> None:
    """Raises ProvisioningError if another application has the backend's name."""
    other = ConnectedApplication.objects.filter(backend=spec.backend).exclude(name=spec.name)
    if conflicting := other.first():
        raise ProvisioningError(
            f"backend {spec.backend!r} already belongs to application {conflicting.name!r}; each "
            "application needs a backend name of its own (see USHER_BACKENDS)"
        )


def _record_connection(
    spec: Application, client: Any, site: Site, outcome: ProvisioningResult, *, adopted: bool
) -> ConnectedApplication:
    """Create or update the ConnectedApplication. If the backend's name differs, first disable the
    old provider record and move the learners' links. client: the application's OAuth client.
    adopted: whether the client existed before provisioning; recorded only when the application is
    new."""
    connected = ConnectedApplication.objects.filter(name=spec.name).first()
    created = connected is None
    if connected is None:
        connected = ConnectedApplication(name=spec.name, oauth_client_adopted=adopted)
    elif connected.backend != spec.backend:
        _change_backend(connected.backend, spec, site, outcome)
    changes = assign(
        connected,
        {
            "backend": spec.backend,
            "client_id": spec.client_id,
            "oauth_client_id": spec.oauth_client_id,
            "issuer": spec.issuer,
            "jwks_url": spec.jwks_url,
            "webhook_url": spec.webhook_url,
            "webhook_secret": spec.webhook_secret,
            "backchannel_logout_url": spec.backchannel_logout_url,
            "logout_url": spec.logout_url,
            "access_token_url": spec.access_token_url,
            "oauth_client_secret_fingerprint": fingerprint(spec.oauth_client_secret),
            "oauth_client_hash_fingerprint": fingerprint(client.client_secret),
        },
    )
    if changes or created:
        connected.save()
    outcome.add_item("application", spec.name, changes, created=created)
    return connected


def _change_backend(old: str, spec: Application, site: Site, outcome: ProvisioningResult) -> None:
    """Disable the old provider record, and move learners' links to the new backend name, so that
    learners can still sign in. Provisioning with the old name moves the links back."""
    providers.remove_provider(replace(spec, backend=old), site, outcome, purge=False)
    moved = move_links(old, spec.backend)
    if moved.moved:
        summary = f"{moved.moved} learners' links from {old} to {spec.backend}"
        outcome.items.append(Item("links", summary, "moved"))
    if moved.kept:
        outcome.warnings.append(
            f"{moved.kept} links of {old} were not moved: their learners already have links of "
            f"{spec.backend}"
        )


def _warn_about_lms_settings(spec: Application, site: Site, outcome: ProvisioningResult) -> None:
    """Warn of LMS settings that provisioning can't change."""
    if spec.backend not in conf.platform().provider_backends():
        outcome.warnings.append(
            f"backend {spec.backend} is not loaded in this LMS: name it in USHER_BACKENDS and "
            "install its package into the image"
        )
    if spec.logout_url and spec.logout_url not in settings.IDA_LOGOUT_URI_LIST:
        outcome.warnings.append(
            f"{spec.logout_url} is not in IDA_LOGOUT_URI_LIST: name it in USHER_LOGOUT_URIS"
        )
    if site.pk != settings.SITE_ID:
        outcome.warnings.append(
            f"the provider record is for site {site.domain}, but this LMS runs as site "
            f"{Site.objects.get(pk=settings.SITE_ID).domain}: sign-in works only on "
            f"{site.domain}"
        )
