"""OAuth2 names on which the application and the LMS must agree."""

from dataclasses import dataclass

from usher.contract.paths import LmsPath

SCOPE_USER_READ = "user:read"
#: Name of the LMS's OAuth client in the application, and of the application's OAuth client in the
#: LMS.
EDX_OAUTH_APP = "edx-oauth-app"
#: Display name of the provider record in the LMS.
PROVIDER_NAME = "mitxApplication"


@dataclass(frozen=True)
class Backend:
    """A python-social-auth backend with which the LMS can sign learners in.

    name: its name in URLs and in the provider record. requirement: the distribution that pip
    installs. class_path: dotted path of its class.

    None of them sends a code challenge (PKCE).
    """

    name: str
    requirement: str
    class_path: str


MITXPRO_OAUTH2 = Backend(
    name="mitxpro-oauth2",
    requirement="social-auth-mitxpro",
    class_path="social_auth_mitxpro.backends.MITxProOAuth2",
)
OL_OAUTH2 = Backend(
    name="ol-oauth2",
    requirement="ol-social-auth",
    class_path="ol_social_auth.backends.OLOAuth2",
)
BACKENDS = {backend.name: backend for backend in (MITXPRO_OAUTH2, OL_OAUTH2)}
DEFAULT_BACKEND = MITXPRO_OAUTH2.name


def lms_redirect_uri(lms_root: str, backend: str) -> str:
    """Address at which the LMS receives the code, such as
    ``http://lms:8000/auth/complete/mitxpro-oauth2/``."""
    return lms_root.rstrip("/") + LmsPath.sign_in_complete(backend)


def social_login_path(backend: str) -> str:
    """Path in the LMS to which the application sends a browser to start sign-in."""
    return LmsPath.sign_in_start(backend) + "?auth_entry=login"
