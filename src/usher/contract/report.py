"""The output of ``manage.py lms usher_report``: facts about the LMS, for doctor.

The output is one JSON object, ``LmsReport``. Every field is optional, because not every release can
report it. The report contains hashes of secrets (``contract.fingerprints``), never the secrets.
Times are ISO 8601.
"""

from typing import Any, TypedDict

VERSION = 1

#: Names of the settings to report. Those in FEATURES are reported with their effective value,
#: whether the release reads them from ``settings.FEATURES`` or from a setting of that name.
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
    """A Django site."""

    id: int
    domain: str
    #: Whether ``SITE_ID`` names this site.
    current: bool


class Provider(TypedDict, total=False):
    """The newest provider record of one site and backend."""

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
    #: The addresses in the record, without secrets; None if the field isn't a JSON object.
    other_settings: dict[str, Any] | None
    #: Why ``other_settings`` is None.
    other_settings_error: str


class OAuthClient(TypedDict, total=False):
    """An OAuth application of this LMS."""

    name: str
    client_id: str
    redirect_uris: list[str]
    #: ``confidential`` or ``public``.
    client_type: str
    #: As django-oauth-toolkit spells it: ``authorization-code``.
    grant_type: str
    skip_authorization: bool
    secret_fingerprint: str


class ServiceWorker(TypedDict, total=False):
    """The LMS user with whose token the application sends requests."""

    username: str
    #: The name of the connected application; '' if there is none.
    application: str
    is_superuser: bool
    is_staff: bool
    is_active: bool
    #: The fingerprint of the provisioned token; '' if that token is no longer valid.
    token_fingerprint: str
    #: When the provisioned token expires; None if that token is no longer valid.
    token_expires: str | None


class Learners(TypedDict, total=False):
    """Learners who are linked to an application. Integers are counts."""

    linked: int
    #: Some learners whose LMS username differs from the uid of their link: pairs of uid and
    #: username.
    renamed: list[tuple[str, str]]
    #: How many learners have an LMS username that differs from the uid of their link.
    other_name: int
    #: LMS usernames of the newest learners whose account is not active.
    inactive: list[str]
    #: Sign-in backend → its number of links. Includes backends that are not connected.
    by_backend: dict[str, int]
    #: Learners who can't sign in, because their LMS password is unusable.
    unusable_password: int


class Backend(TypedDict, total=False):
    """A sign-in backend."""

    name: str
    class_path: str
    #: Why the class can't be imported in this process; '' if it can.
    error: str


class TokenProbe(TypedDict, total=False):
    """The answer of the application's token endpoint to a request from the LMS. The request has the
    provider record's client id and secret, and a code that doesn't exist."""

    backend_name: str
    url: str
    #: The HTTP status; None if nothing answered.
    status: int | None
    #: ``invalid_grant`` shows a right client id and secret, ``invalid_client`` wrong ones.
    oauth_error: str
    #: Why nothing answered.
    error: str


class LearnerHome(TypedDict, total=False):
    """The learner's first page after sign-in."""

    micro_frontend: bool
    #: The address of the micro-frontend.
    url: str


class Connection(TypedDict, total=False):
    """A connected application, as provisioned."""

    name: str
    backend: str
    webhook_url: str
    webhook_secret_fingerprint: str
    backchannel_logout_url: str
    jwks_url: str


class Column(TypedDict):
    """A column of the LMS's database."""

    table: str
    column: str
    #: Whether the column may be null.
    null: bool


class LmsReport(TypedDict, total=False):
    """The whole report."""

    version: int
    #: When the report was made, in UTC.
    time: str
    release: str
    settings: dict[str, Any]
    features: dict[str, Any]
    sites: list[Site]
    providers: list[Provider]
    oauth_clients: list[OAuthClient]
    #: Whether the OAuth client of the LMS's own sign-in exists.
    login_service: bool
    service_worker: ServiceWorker | None
    learners: Learners
    learner_home: LearnerHome
    #: Whether people can create an account in the LMS itself.
    direct_registration: bool
    backends: list[Backend]
    connections: list[Connection]
    token_probes: list[TokenProbe]
    #: Columns too short for the UUIDs that this version of Django writes.
    short_uuid_columns: list[Column]
    #: Whether ``lms/envs/private.py`` exists.
    private_settings: bool
    #: Distribution → version, of the packages that Usher depends on.
    packages: dict[str, str]
    #: Sentences, as ``pip check`` prints them.
    package_conflicts: list[str]
    #: Distributions that were installed by hand into this container.
    packages_outside_image: list[str]
