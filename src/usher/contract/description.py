"""Makes the description that ``usher_provision`` reads, and the LMS's settings, from ``USHER_*``.

The ``USHER_*`` values come from Tutor's ``config.yml``, or from the settings of an embedded LMS.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from usher.contract import tutor_values
from usher.contract.applications import (
    Entry,
    EntryError,
    read_entries,
    service_worker,
    to_application,
)
from usher.contract.provisioning import (
    RETIREMENT,
    Description,
    DescriptionError,
    ServiceWorker,
    Superuser,
)

#: Value of USHER_DEFAULT_APPLICATION with which /login shows a button for each application.
LEARNERS_CHOICE = "choice"
#: Defaults of the values read here. USHER_SECRET and USHER_SERVICE_WORKER_TOKEN have no default.
DEFAULTS: dict[str, Any] = {
    "USHER_APPLICATIONS": [],
    "USHER_SIGN_IN": True,
    "USHER_DEFAULT_APPLICATION": "",
    "USHER_REDIRECT_ANONYMOUS": False,
    "USHER_DIRECT_REGISTRATION": False,
    "USHER_ANONYMOUS_PATHS": [],
    "USHER_SERVICE_WORKER_USERNAME": "mit_Application_serviceworker",
    "USHER_SERVICE_WORKER_EMAIL": "mit_application_serviceworker@example.org",
    "USHER_SUPERUSER_USERNAME": "",
    "USHER_SUPERUSER_EMAIL": "",
    "USHER_SUPERUSER_APPLICATION": "",
}


def describe(config: Mapping[str, Any]) -> Description:
    """The description of every connected application. ``config``: all ``USHER_*`` values.

    Raises EntryError when USHER_APPLICATIONS or another of the values can't be used."""
    entries = entries_of(config)
    secret = config["USHER_SECRET"]
    shared_service_worker = ServiceWorker(
        username=config["USHER_SERVICE_WORKER_USERNAME"],
        email=config["USHER_SERVICE_WORKER_EMAIL"],
        token=config["USHER_SERVICE_WORKER_TOKEN"],
    )
    applications = []
    for index, entry in enumerate(entries):
        application = to_application(entry, secret)
        # Each application has its own service worker, so that a token leaked by one application
        # gives no access to the learners of another. Only the first one may have the shared
        # service worker.
        has_own_service_worker = index > 0 or bool(entry.service_worker_username)
        if has_own_service_worker:
            own_service_worker = service_worker(entry, secret)
            application = replace(application, service_worker=own_service_worker)
        applications.append(application)
    unchecked = Description(
        applications=applications,
        service_worker=shared_service_worker,
        superuser=_superuser(config, entries),
    )
    try:
        return Description.from_json(unchecked.to_json())
    except DescriptionError as error:
        raise EntryError(f"USHER_APPLICATIONS and USHER_SERVICE_WORKER_*: {error}") from error


def entries_of(config: Mapping[str, Any]) -> list[Entry]:
    """The applications in ``config``. Raises EntryError if any ``USHER_*`` value in ``config`` must
    not be rendered."""
    entries = read_entries(config["USHER_APPLICATIONS"])
    own_settings = {key: value for key, value in config.items() if key in tutor_values.SETTINGS}
    try:
        # Without the applications, which ``read_entries`` has checked.
        tutor_values.check_settings({**own_settings, "USHER_APPLICATIONS": []})
    except tutor_values.NotAllowed as error:
        raise EntryError(str(error)) from None
    return entries


def lms_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that ``usher.lms.settings`` reads at the top level of lms.env.yml. No secrets.

    Empty while USHER_SIGN_IN is off or no application is connected: the LMS then behaves as without
    Usher. Raises EntryError.
    """
    entries = entries_of(config)
    if not config["USHER_SIGN_IN"] or not entries:
        return {}
    return {
        "USHER_BACKENDS": {entry.backend: entry.backend_base for entry in entries},
        "USHER_DEFAULT_BACKEND": _default_backend(config["USHER_DEFAULT_APPLICATION"], entries),
        "USHER_LOGOUT_URIS": [entry.sign_out_url for entry in entries],
        "USHER_REDIRECT_ANONYMOUS": bool(config["USHER_REDIRECT_ANONYMOUS"]),
        "USHER_DIRECT_REGISTRATION": bool(config["USHER_DIRECT_REGISTRATION"]),
        "USHER_ANONYMOUS_PATHS": list(config["USHER_ANONYMOUS_PATHS"]),
        "USHER_RETIREMENT": any(RETIREMENT in entry.service_clients for entry in entries),
    }


def _default_backend(name: str, entries: list[Entry]) -> str:
    """The backend with which the LMS signs people in: of the application ``name``, or of the first
    application if ``name`` is empty; '' if learners choose. Raises EntryError for an unknown
    name."""
    if not name:
        return entries[0].backend
    if name == LEARNERS_CHOICE:
        return ""
    return _backend_of(
        name, entries, "USHER_DEFAULT_APPLICATION", other_values=f", or {LEARNERS_CHOICE}"
    )


def _superuser(config: Mapping[str, Any], entries: list[Entry]) -> Superuser | None:
    """The superuser to create; None if no username is set."""
    username = config["USHER_SUPERUSER_USERNAME"]
    if not username:
        return None
    name = config["USHER_SUPERUSER_APPLICATION"]
    return Superuser(
        username=username,
        email=config["USHER_SUPERUSER_EMAIL"] or f"{username}@example.org",
        backend=_backend_of(name, entries, "USHER_SUPERUSER_APPLICATION") if name else "",
    )


def _backend_of(name: str, entries: list[Entry], setting: str, other_values: str = "") -> str:
    """The backend of the application ``name``. Raises EntryError, which names ``setting``, if there
    is no such application. other_values: the end of the message, with further allowed values."""
    for entry in entries:
        if entry.name == name:
            return entry.backend
    names = ", ".join(entry.name for entry in entries) or "nothing"
    raise EntryError(
        f"{setting} is {tutor_values.quoted(name)}, which USHER_APPLICATIONS doesn't have: "
        f"write one of {names}{other_values}"
    )
