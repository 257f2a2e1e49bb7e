"""The settings that connect writes to the application's ``.env``."""

from dataclasses import dataclass, field

from usher.contract.environment import SERVICE_CLIENTS, Env, ServiceEnv
from usher.contract.oauth import social_login_path
from usher.contract.paths import LmsPath
from usher.contract.provisioning import (
    COURSES,
    Application,
    ServiceClient,
    ServiceWorker,
)

#: docker compose replaces this value with the address at which containers reach the machine, on
#: Linux and macOS. So nobody has to look up a gateway's address.
HOST_GATEWAY = "host-gateway"

#: All settings that connect writes into a ``.env`` and ``disconnect`` restores.
KEYS = (
    Env.OPENEDX_IP,
    Env.OPENEDX_API_BASE_URL,
    Env.OPENEDX_BASE_REDIRECT_URL,
    Env.OPENEDX_COURSE_BASE_URL,
    Env.OPENEDX_SERVICE_WORKER_USERNAME,
    Env.OPENEDX_SERVICE_WORKER_API_TOKEN,
    Env.OPENEDX_API_CLIENT_ID,
    Env.OPENEDX_API_CLIENT_SECRET,
    ServiceEnv.OPENEDX_STUDIO_API_BASE_URL,
    ServiceEnv.OPENEDX_COURSES_SERVICE_WORKER_CLIENT_ID,
    ServiceEnv.OPENEDX_COURSES_SERVICE_WORKER_CLIENT_SECRET,
    ServiceEnv.OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_ID,
    ServiceEnv.OPENEDX_RETIREMENT_SERVICE_WORKER_CLIENT_SECRET,
    Env.OPENEDX_OAUTH_PROVIDER,
    Env.OPENEDX_SOCIAL_LOGIN_PATH,
    Env.LOGOUT_REDIRECT_URL,
    Env.USHER_WEBHOOK_SECRET,
    Env.MITX_ONLINE_REGISTRATION_ACCESS_TOKEN,
    Env.MITXPRO_REGISTRATION_ACCESS_TOKEN,
)
#: The keys that are Django settings of the same name in every known application.
SETTINGS = (
    Env.OPENEDX_API_BASE_URL,
    Env.OPENEDX_SERVICE_WORKER_USERNAME,
    Env.OPENEDX_SERVICE_WORKER_API_TOKEN,
    Env.OPENEDX_API_CLIENT_ID,
    Env.OPENEDX_API_CLIENT_SECRET,
    Env.OPENEDX_OAUTH_PROVIDER,
)


#: Shown in a plan in place of an id or secret that doesn't exist yet.
GENERATED = "(generated)"


@dataclass(frozen=True)
class Identity:
    """The application's credentials in the LMS.

    webhook_secret: '' for an application that is not built on Usher.
    """

    backend: str
    client_id: str
    client_secret: str = field(repr=False)
    worker_username: str
    worker_token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    service_clients: list[ServiceClient] = field(default_factory=list)


def identity_of(application: Application, worker: ServiceWorker) -> Identity:
    return Identity(
        backend=application.backend,
        client_id=application.oauth_client_id,
        client_secret=application.oauth_client_secret,
        worker_username=worker.username,
        worker_token=worker.token,
        webhook_secret=application.webhook_secret,
        service_clients=application.service_clients,
    )


def settings_for(
    identity: Identity,
    *,
    lms_url: str,
    lms_server_url: str,
    lms_at_gateway: bool,
    studio_url: str = "",
    registration_token_key: str = "",
) -> dict[str, str]:
    """Returns the settings that the ``.env`` must have.

    lms_url: for browsers. lms_server_url, studio_url: the LMS's and Studio's, for the application's
    server. lms_at_gateway: whether the application runs in containers and the LMS on the same
    machine, so that the application reaches the LMS at the address of docker's gateway.
    registration_token_key: the name of the setting for the token that exempts the application from
    the LMS's rate limit of registrations; '' if the application has no such setting.
    """
    values = {
        Env.OPENEDX_API_BASE_URL: lms_server_url,
        Env.OPENEDX_BASE_REDIRECT_URL: lms_url,
        Env.OPENEDX_COURSE_BASE_URL: f"{lms_url}/courses/",
        Env.OPENEDX_SERVICE_WORKER_USERNAME: identity.worker_username,
        Env.OPENEDX_SERVICE_WORKER_API_TOKEN: identity.worker_token,
        Env.OPENEDX_API_CLIENT_ID: identity.client_id,
        Env.OPENEDX_API_CLIENT_SECRET: identity.client_secret,
        Env.OPENEDX_OAUTH_PROVIDER: identity.backend,
        Env.OPENEDX_SOCIAL_LOGIN_PATH: social_login_path(identity.backend),
        Env.LOGOUT_REDIRECT_URL: lms_url + LmsPath.LOGOUT,
    }
    if lms_at_gateway:
        values[Env.OPENEDX_IP] = HOST_GATEWAY
    if registration_token_key:
        values[registration_token_key] = identity.worker_token
    for client in identity.service_clients:
        key_of_id, key_of_secret = SERVICE_CLIENTS[client.purpose]
        values |= {key_of_id: client.client_id, key_of_secret: client.client_secret}
        if client.purpose == COURSES and studio_url:
            values[ServiceEnv.OPENEDX_STUDIO_API_BASE_URL] = studio_url
    if identity.webhook_secret:
        values[Env.USHER_WEBHOOK_SECRET] = identity.webhook_secret
    return values
