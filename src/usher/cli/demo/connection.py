"""The settings and records that connect an application and an embedded LMS."""

from pathlib import Path

from usher.cli.demo.credentials import Credentials
from usher.cli.demo.errors import DemoError
from usher.contract import oauth
from usher.contract.applications import application_built_on_usher
from usher.contract.environment import Env
from usher.contract.paths import ApplicationPath, LmsPath
from usher.contract.provisioning import Description, ServiceWorker, Superuser
from usher.embedded.home import folder as lms_folder

#: Usernames in the LMS.
SERVICE_WORKER = "mit_Application_serviceworker"
SUPERUSER = "edx"
SUPERUSER_EMAIL = "edx@example.org"


def make_lms(folder: Path, lms_url: str, application_url: str) -> None:
    """Creates the folder of the LMS, or updates an older one. Raises DemoError."""
    plan = lms_folder.Plan(
        root_url=lms_url,
        application_url=application_url,
        settings={
            "USHER_BACKENDS": {oauth.DEFAULT_BACKEND: oauth.DEFAULT_BACKEND},
            "USHER_LOGOUT_URIS": [application_url + ApplicationPath.LOGOUT],
        },
    )
    try:
        lms_folder.make(folder, plan)
    except lms_folder.FolderError as error:
        raise DemoError(str(error)) from error


def describe(name: str, application_url: str, credentials: Credentials) -> Description:
    """The records that the LMS needs for this application."""
    application = application_built_on_usher(
        name,
        application_url,
        client_id=credentials.lms_client_id,
        client_secret=credentials.lms_client_secret,
        oauth_client_id=credentials.oauth_client_id,
        oauth_client_secret=credentials.oauth_client_secret,
        webhook_secret=credentials.webhook_secret,
    )
    return Description(
        applications=[application],
        service_worker=ServiceWorker(
            username=SERVICE_WORKER,
            email=f"{SERVICE_WORKER.lower()}@example.org",
            token=credentials.service_worker_token,
        ),
        superuser=Superuser(SUPERUSER, SUPERUSER_EMAIL, credentials.superuser_password),
    )


def environment(lms_url: str, credentials: Credentials) -> dict[str, str]:
    """The application's settings for the LMS at ``lms_url``."""
    return {
        Env.OPENEDX_API_BASE_URL: lms_url,
        Env.OPENEDX_BASE_REDIRECT_URL: lms_url,
        Env.OPENEDX_API_CLIENT_ID: credentials.oauth_client_id,
        Env.OPENEDX_API_CLIENT_SECRET: credentials.oauth_client_secret,
        Env.OPENEDX_SERVICE_WORKER_USERNAME: SERVICE_WORKER,
        Env.OPENEDX_SERVICE_WORKER_API_TOKEN: credentials.service_worker_token,
        Env.OPENEDX_OAUTH_PROVIDER: oauth.DEFAULT_BACKEND,
        Env.OPENEDX_SOCIAL_LOGIN_PATH: oauth.social_login_path(oauth.DEFAULT_BACKEND),
        Env.LOGOUT_REDIRECT_URL: lms_url + LmsPath.LOGOUT,
        Env.USHER_WEBHOOK_SECRET: credentials.webhook_secret,
    }
