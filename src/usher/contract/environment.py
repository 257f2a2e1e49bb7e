"""Names in the application's ``.env``, as MITx Online and MIT xPro already call them."""


class Env:
    """One constant for each key; the value is the key's own name."""

    #: Address of the LMS's container network on this machine; MITx Online's compose file reads it.
    OPENEDX_IP = "OPENEDX_IP"
    #: The LMS's address for the application's server, such as `http://local.openedx.io:8000`.
    OPENEDX_API_BASE_URL = "OPENEDX_API_BASE_URL"
    #: The LMS's address for browsers. Default: `OPENEDX_API_BASE_URL`.
    OPENEDX_BASE_REDIRECT_URL = "OPENEDX_BASE_REDIRECT_URL"
    #: OAuth client of the application in the LMS, used to obtain learners' tokens.
    OPENEDX_API_CLIENT_ID = "OPENEDX_API_CLIENT_ID"
    #: Secret of the OAuth client `OPENEDX_API_CLIENT_ID`.
    OPENEDX_API_CLIENT_SECRET = "OPENEDX_API_CLIENT_SECRET"  # noqa: S105 - a name
    #: LMS account that the application acts as when it enrolls learners.
    OPENEDX_SERVICE_WORKER_USERNAME = "OPENEDX_SERVICE_WORKER_USERNAME"
    #: Access token of the account `OPENEDX_SERVICE_WORKER_USERNAME`.
    OPENEDX_SERVICE_WORKER_API_TOKEN = "OPENEDX_SERVICE_WORKER_API_TOKEN"  # noqa: S105 - a name
    #: Name of the LMS's sign-in backend for this application, such as `ol-oauth2`.
    OPENEDX_OAUTH_PROVIDER = "OPENEDX_OAUTH_PROVIDER"
    #: Name of the OAuth client with which the LMS signs learners in. Default: `edx-oauth-app`.
    OPENEDX_OAUTH_APP_NAME = "OPENEDX_OAUTH_APP_NAME"
    #: Path at the LMS that starts sign-in; it names the same backend as `OPENEDX_OAUTH_PROVIDER`.
    OPENEDX_SOCIAL_LOGIN_PATH = "OPENEDX_SOCIAL_LOGIN_PATH"
    #: Part of a course's address before the course key. Default: the LMS's address and `/courses/`.
    OPENEDX_COURSE_BASE_URL = "OPENEDX_COURSE_BASE_URL"
    #: Part of a course's address after the course key. Default: `/course/`.
    OPENEDX_COURSE_BASE_URL_SUFFIX = "OPENEDX_COURSE_BASE_URL_SUFFIX"
    #: Seconds to wait for one request to the LMS. Default: 60.
    EDX_API_CLIENT_TIMEOUT = "EDX_API_CLIENT_TIMEOUT"
    #: Where sign-out continues: the LMS's `/logout`.
    LOGOUT_REDIRECT_URL = "LOGOUT_REDIRECT_URL"
    #: Token for an LMS that restricts registration (MITx Online's name).
    MITX_ONLINE_REGISTRATION_ACCESS_TOKEN = "MITX_ONLINE_REGISTRATION_ACCESS_TOKEN"  # noqa: S105
    #: Token for an LMS that restricts registration (MIT xPro's name).
    MITXPRO_REGISTRATION_ACCESS_TOKEN = "MITXPRO_REGISTRATION_ACCESS_TOKEN"  # noqa: S105
    #: Secret that signs the LMS's webhooks and back-channel sign-out messages.
    USHER_WEBHOOK_SECRET = "USHER_WEBHOOK_SECRET"  # noqa: S105 - a name
    #: Keys that encrypt learners' tokens in the database, newest first, comma separated.
    USHER_ENCRYPTION_KEYS = "USHER_ENCRYPTION_KEYS"


class ServiceEnv:
    """MITx Online's settings for its requests as a service. An application built on Usher reads
    none of these."""

    #: Studio's address for the application's server, which creates and copies course runs in
    #: Studio.
    OPENEDX_STUDIO_API_BASE_URL = "OPENEDX_STUDIO_API_BASE_URL"
    #: OAuth client with the grant *client credentials*, to create and copy course runs.
    OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID = "OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID"
    #: Secret of the OAuth client `OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID`.
    OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET = "OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET"  # noqa: S105
    #: OAuth client with the grant *client credentials*, to retire learners.
    OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID = "OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID"
    #: Secret of the OAuth client `OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID`.
    OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET = (
        "OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET"  # noqa: S105
    )


#: Purpose of a service client (``usher.contract.provisioning.PURPOSES``) → names of the settings
#: that hold its id and its secret.
SERVICE_CLIENTS = {
    "courses": (
        ServiceEnv.OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID,
        ServiceEnv.OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET,
    ),
    "retirement": (
        ServiceEnv.OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID,
        ServiceEnv.OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET,
    ),
}

#: Keys whose values must never be shown.
SECRET_KEYS = frozenset(
    {
        Env.OPENEDX_API_CLIENT_SECRET,
        Env.OPENEDX_SERVICE_WORKER_API_TOKEN,
        ServiceEnv.OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET,
        ServiceEnv.OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET,
        Env.MITX_ONLINE_REGISTRATION_ACCESS_TOKEN,
        Env.MITXPRO_REGISTRATION_ACCESS_TOKEN,
        Env.USHER_WEBHOOK_SECRET,
        Env.USHER_ENCRYPTION_KEYS,
        "SECRET_KEY",
        "DATABASE_URL",
    }
)

#: Every key of ``Env``.
ALL_KEYS = tuple(value for name, value in vars(Env).items() if name.isupper())
