"""What ``manage.py lms usher_report`` prints: facts about the LMS, for doctor.

One JSON object. Every field is optional, because not every release can report it. It holds no
secrets but their fingerprints (``contract.fingerprints``).
"""

from typing import Any, TypedDict

VERSION = 1

#: Names of the settings to report. Those in FEATURES are reported by their effective value, whether
#: the release reads them from ``settings.FEATURES`` or from a setting of that name.
FEATURES = (
    "ALLOW_PUBLIC_ACCOUNT_CREATION",
    "ENABLE_AUTHN_MICROFRONTEND",
    "ENABLE_COMBINED_LOGIN_REGISTRATION",
    "ENABLE_OAUTH2_PROVIDER",
    "ENABLE_THIRD_PARTY_AUTH",
    "SKIP_EMAIL_VALIDATION",
    "THIRD_PARTY_AUTH_HINT",
)
SETTINGS = (
    "AUTHENTICATION_BACKENDS",
    "IDA_LOGOUT_URI_LIST",
    "LMS_BASE",
    "LMS_ROOT_URL",
    "LOGIN_REDIRECT_WHITELIST",
    "REGISTRATION_EXTRA_FIELDS",
    "REGISTRATION_RATELIMIT",
    "SITE_ID",
    "SOCIAL_AUTH_PIPELINE",
    "THIRD_PARTY_AUTH_BACKENDS",
)


class Site(TypedDict, total=False):
    """A Django site. current: whether it is the one of ``SITE_ID``."""

    id: int
    domain: str
    current: bool


class Provider(TypedDict, total=False):
    """The newest provider record of one site and backend. other_settings: the record's addresses,
    without secrets; None, with the reason in other_settings_error, if it isn't a JSON object."""

    backend_name: str
    name: str
    slug: str
    site_id: int
    site_domain: str
    enabled: bool
    visible: bool
    skip_hinted_login_dialog: bool
    skip_registration_form: bool
    skip_email_verification: bool
    sync_learner_profile_data: bool
    enable_sso_id_verification: bool
    client_id: str
    secret_fingerprint: str
    other_settings: dict[str, Any] | None
    other_settings_error: str


class OAuthClient(TypedDict, total=False):
    """An OAuth application of this LMS. redirect_uris: separate addresses. client_type:
    ``confidential`` or ``public``; grant_type as the toolkit writes it, ``authorization-code``."""

    name: str
    client_id: str
    redirect_uris: list[str]
    client_type: str
    grant_type: str
    skip_authorization: bool
    secret_fingerprint: str


class ServiceWorker(TypedDict, total=False):
    """token_expires: when its newest valid token expires, ISO; None without one. application: name
    of the application that it acts for, '' for none."""

    username: str
    application: str
    is_superuser: bool
    is_staff: bool
    is_active: bool
    token_fingerprint: str
    token_expires: str | None


class Learners(TypedDict, total=False):
    """Learners linked to an application; numbers, if not said otherwise.

    unusable_password: those who can't sign in because their LMS password is unusable. other_name:
    those whose LMS username isn't the uid of their link; renamed: some of these, as pairs of uid
    and username. inactive: LMS usernames of the newest ones whose account is not active.
    by_backend: sign-in backend → its links, also for backends that are not connected."""

    linked: int
    renamed: list[tuple[str, str]]
    inactive: list[str]
    by_backend: dict[str, int]
    unusable_password: int
    other_name: int


class Backend(TypedDict, total=False):
    """A sign-in backend. error: why its class can't be imported in this process; '' if it can."""

    name: str
    class_path: str
    error: str


class TokenProbe(TypedDict, total=False):
    """The result of a request from the LMS to the application's token endpoint, with the provider
    record's client and a code that doesn't exist. status: HTTP status; None, with the reason in
    error, if nothing answered. oauth_error: ``invalid_grant`` shows that the client is right,
    ``invalid_client`` that it is wrong."""

    backend_name: str
    url: str
    status: int | None
    oauth_error: str
    error: str


class LearnerHome(TypedDict, total=False):
    """The learner's first page after sign-in. micro_frontend: whether it is a micro-frontend, with
    its address in url."""

    micro_frontend: bool
    url: str


class Connection(TypedDict, total=False):
    """A connected application, as provisioned."""

    name: str
    backend: str
    webhook_url: str
    webhook_secret_fingerprint: str
    backchannel_logout_url: str
    jwks_url: str


class LmsReport(TypedDict, total=False):
    """The whole report.

    time: when it was made, ISO, UTC. login_service: whether the OAuth client of the LMS's own
    sign-in exists. direct_registration: whether people can create an account in the LMS itself.
    private_settings: whether ``lms/envs/private.py`` exists. packages: distribution → version, of
    those that Usher depends on. package_conflicts: sentences as ``pip check`` prints them.
    packages_outside_image: distributions that were installed by hand into this container.
    """

    version: int
    time: str
    release: str
    settings: dict[str, Any]
    features: dict[str, Any]
    sites: list[Site]
    providers: list[Provider]
    oauth_clients: list[OAuthClient]
    login_service: bool
    service_worker: ServiceWorker | None
    learners: Learners
    learner_home: LearnerHome
    direct_registration: bool
    backends: list[Backend]
    connections: list[Connection]
    token_probes: list[TokenProbe]
    private_settings: bool
    packages: dict[str, str]
    package_conflicts: list[str]
    packages_outside_image: list[str]
