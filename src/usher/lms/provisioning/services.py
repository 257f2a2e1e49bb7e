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
from usher.lms.provisioning.outcome import Item, Outcome, assign


def provision(description: Description, *, dry_run: bool = False) -> Outcome:
    """Update this LMS from ``description``, changing only what differs.

    Raises ProvisioningError; then, and with ``dry_run``, nothing has been changed.
    """
    outcome = Outcome(dry_run=dry_run)
    with transaction.atomic():
        site = find_site(description.site)
        if description.superuser:
            users.provision_superuser(description.superuser, outcome)
        clients.provision_login_service(outcome)
        for application in description.applications:
            worker = description.service_worker_of(application.name)
            _provision_application(application, worker, site, outcome)
        transaction.set_rollback(dry_run)
    return outcome


def remove(description: Description, *, purge: bool = False, dry_run: bool = False) -> Outcome:
    """Remove what ``provision`` created. Learners, their accounts and enrollments stay, and so does
    the superuser.

    purge: also delete accounts and provider versions that are otherwise only disabled. Raises
    ProvisioningError; then, and with ``dry_run``, nothing has been changed.
    """
    outcome = Outcome(dry_run=dry_run)
    with transaction.atomic():
        site = find_site(description.site)
        for application in description.applications:
            providers.remove_provider(application, site, outcome, purge=purge)
            known = ConnectedApplication.objects.filter(name=application.name).first()
            if known is not None:
                service_clients.remove_service_clients(known, outcome, purge=purge)
            if worker := description.service_worker_of(application.name):
                users.remove_service_worker(worker, outcome, purge=purge)
            if known is not None:
                clients.remove_client(known, outcome)
                known.delete()
                outcome.items.append(Item("application", application.name, "removed"))
        if description.service_worker and not description.applications:
            users.remove_service_worker(description.service_worker, outcome, purge=purge)
        transaction.set_rollback(dry_run)
    return outcome


def find_site(domain: str) -> Site:
    """The site with this domain; without one, the site that the LMS runs as (SITE_ID), the only one
    whose provider records are used at sign-in. Raises ProvisioningError."""
    if not domain:
        return Site.objects.get(pk=settings.SITE_ID)
    site = Site.objects.filter(domain=domain).first()
    if site is None:
        known = ", ".join(Site.objects.order_by("pk").values_list("domain", flat=True))
        raise ProvisioningError(
            f"this LMS has no site {domain!r}, only: {known}; name one of them, or leave it out"
        )
    return site


def _provision_application(
    wanted: Application, worker: ServiceWorker | None, site: Site, outcome: Outcome
) -> None:
    _check_names_are_free(wanted)
    providers.provision_provider(wanted, site, outcome)
    client, adopted = clients.provision_client(wanted, outcome)
    application = _record_connection(wanted, client, site, outcome, adopted=adopted)
    if worker is not None:
        users.provision_service_worker(worker, application, client, outcome)
    service_clients.provision_service_clients(wanted, application, outcome)
    _warn(wanted, site, outcome)


def _check_names_are_free(wanted: Application) -> None:
    other = ConnectedApplication.objects.filter(backend=wanted.backend).exclude(name=wanted.name)
    if found := other.first():
        raise ProvisioningError(
            f"backend {wanted.backend!r} already belongs to application {found.name!r}; each "
            "application needs a backend name of its own (see USHER_BACKENDS)"
        )


def _record_connection(
    wanted: Application, client: Any, site: Site, outcome: Outcome, *, adopted: bool
) -> ConnectedApplication:
    known = ConnectedApplication.objects.filter(name=wanted.name).first()
    created = known is None
    if known is not None and known.backend != wanted.backend:
        _change_backend(known.backend, wanted, site, outcome)
    if known is None:
        known = ConnectedApplication(name=wanted.name, oauth_client_adopted=adopted)
    changes = assign(
        known,
        {
            "backend": wanted.backend,
            "client_id": wanted.client_id,
            "oauth_client_id": wanted.oauth_client_id,
            "issuer": wanted.issuer,
            "jwks_url": wanted.jwks_url,
            "webhook_url": wanted.webhook_url,
            "webhook_secret": wanted.webhook_secret,
            "backchannel_logout_url": wanted.backchannel_logout_url,
            "logout_url": wanted.logout_url,
            "access_token_url": wanted.access_token_url,
            "oauth_client_secret_fingerprint": fingerprint(wanted.oauth_client_secret),
            "oauth_client_hash_fingerprint": fingerprint(client.client_secret),
        },
    )
    if changes or created:
        known.save()
    outcome.note("application", wanted.name, changes, created=created)
    return known


def _change_backend(old: str, wanted: Application, site: Site, outcome: Outcome) -> None:
    """Disable the old provider record and move learners' links to the new backend name, without
    which learners could not sign in. Provisioning with the old name moves the links back."""
    providers.remove_provider(replace(wanted, backend=old), site, outcome, purge=False)
    done = move_links(old, wanted.backend)
    if done.moved:
        told = f"{done.moved} learners' links from {old} to {wanted.backend}"
        outcome.items.append(Item("links", told, "moved"))
    if done.kept:
        outcome.warnings.append(
            f"{done.kept} links of {old} were not moved: their learners already have links of "
            f"{wanted.backend}"
        )


def _warn(wanted: Application, site: Site, outcome: Outcome) -> None:
    """Warn of LMS settings that provisioning can't change."""
    if wanted.backend not in conf.platform().provider_backends():
        outcome.warnings.append(
            f"backend {wanted.backend} is not loaded in this LMS: name it in USHER_BACKENDS and "
            "install its package into the image"
        )
    if wanted.logout_url and wanted.logout_url not in settings.IDA_LOGOUT_URI_LIST:
        outcome.warnings.append(
            f"{wanted.logout_url} is not in IDA_LOGOUT_URI_LIST: name it in USHER_LOGOUT_URIS"
        )
    if site.pk != settings.SITE_ID:
        outcome.warnings.append(
            f"the provider record is for site {site.domain}, but this LMS runs as site "
            f"{Site.objects.get(pk=settings.SITE_ID).domain}: sign-in works only on "
            f"{site.domain}"
        )
