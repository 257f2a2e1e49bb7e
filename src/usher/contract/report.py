"""What ``manage.py lms usher_report`` prints: the LMS's side of the facts that doctor compares.

JSON, one object. Everything is optional for the reader: a release may not know a fact. Never a
secret: fingerprints (``contract.fingerprints``) stand for them.
"""

from typing import Any, TypedDict

VERSION = 1

#: Settings to report by name; those under FEATURES count by their effective value on any release.
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
    """current: the one of ``SITE_ID``."""

    id: int
    domain: str
    current: bool


class Provider(TypedDict, total=False):
    """The newest record of one (site, backend). other_settings: None with other_settings_error
    when the text isn't a JSON object; addresses only, secrets taken out."""

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
    """token_expires: ISO moment of its newest valid token's end, None without one. application:
    the one that it may act for, '' for none."""

    username: str
    application: str
    is_superuser: bool
    is_staff: bool
    is_active: bool
    token_fingerprint: str
    token_expires: str | None


class Learners(TypedDict, total=False):
    """Counts. unusable_password: linked learners who can't sign in because of it. other_name:
    linked learners whose uid isn't their username, renamed: some of them, uid and username.
    inactive: usernames of the newest linked learners whose account is not active. by_backend: links
    by the name of the sign-in backend, those of backends that are not connected included."""

    linked: int
    renamed: list[tuple[str, str]]
    inactive: list[str]
    by_backend: dict[str, int]
    unusable_password: int
    other_name: int


class Backend(TypedDict, total=False):
    """error: why its class can't be imported in this process; '' when it can."""

    name: str
    class_path: str
    error: str


class TokenProbe(TypedDict, total=False):
    """The LMS's own try of the application's token endpoint, with the provider record's client and
    a code that doesn't exist. status: None when nothing answered, with error. oauth_error:
    ``invalid_grant`` means that the client is right, ``invalid_client`` that it isn't."""

    backend_name: str
    url: str
    status: int | None
    oauth_error: str
    error: str


class LearnerHome(TypedDict, total=False):
    """Where a signed-in learner lands. micro_frontend: a page outside of the LMS, at url."""

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
    """time: ISO, UTC. private_settings: ``lms/envs/private.py`` is there. packages: version by
    distribution name, of those that matter here. direct_registration: people can make an account at
    the LMS itself. package_conflicts: sentences as of ``pip check``.
    packages_outside_image: installed by hand into this container."""

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
