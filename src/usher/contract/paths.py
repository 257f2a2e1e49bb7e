"""URL paths of the application and the LMS, without host.

Source: the recorded exchanges (``tests/recordings``) and edx-platform's URL configuration.
"""

from urllib.parse import quote


class LmsPath:
    """Paths of an Open edX LMS that the application, doctor or conformance call."""

    ME = "/api/user/v1/me"
    ACCOUNTS = "/api/user/v1/accounts"
    REGISTRATION = "/user_api/v1/account/registration/"
    #: Every path that accepts a registration (edx-platform's ``user_authn/urls_common.py``).
    REGISTRATIONS = (
        REGISTRATION,
        "/user_api/v2/account/registration/",
        "/api/user/v1/account/registration/",
        "/api/user/v2/account/registration/",
        "/create_account",
    )
    REGISTRATION_VALIDATION = "/api/user/v1/validation/registration"
    COURSES = "/api/courses/v1/courses/"
    COURSE_MODES = "/api/course_modes/v1/courses/{course_key}/"
    ENROLLMENT = "/api/enrollment/v1/enrollment"
    ENROLLMENTS = "/api/enrollment/v1/enrollments/"
    GRADES = "/api/grades/v1/courses/{course_key}/"
    CERTIFICATES = "/api/certificates/v0/certificates/{username}/"
    AUTHORIZE = "/oauth2/authorize"
    ACCESS_TOKEN = "/oauth2/access_token"  # noqa: S105 - a path
    #: The application redirects the browser to this path, with a code. Between the steps of sign-in
    #: the platform redirects to the same path, without a code.
    SIGN_IN_COMPLETE = "/auth/complete/"
    LOGIN = "/login"
    REGISTER = "/register"
    LOGOUT = "/logout"
    DASHBOARD = "/dashboard"
    COURSE_HOME = "/courses/{course_key}/course/"
    HEARTBEAT = "/heartbeat"
    BULK_RETIRE = "/v1/accounts/bulk_retire_users"
    #: A path of Studio, which has its own host.
    STUDIO_COURSE_RUNS = "/api/v1/course_runs/"

    # Only an LMS with usher.lms has these paths.
    USHER_API = "/usher/api/v1/"
    USHER_ACCOUNTS = "/usher/api/v1/accounts/"
    USHER_ENROLLMENTS = "/usher/api/v1/enrollments/"
    USHER_COURSE_RUNS = "/usher/api/v1/course-runs/"
    USHER_LINKS = "/usher/api/v1/links/"
    USHER_REPORT = "/usher/api/v1/report/"
    USHER_BACKCHANNEL_LOGOUT = "/usher/backchannel-logout/{backend}/"

    @staticmethod
    def sign_in_start(backend: str) -> str:
        return f"/auth/login/{backend}/"

    @staticmethod
    def sign_in_complete(backend: str) -> str:
        return f"{LmsPath.SIGN_IN_COMPLETE}{backend}/"


class ApplicationPath:
    """Paths of the application that the LMS, browsers or doctor call."""

    AUTHORIZE = "/oauth2/authorize/"
    TOKEN = "/oauth2/token/"  # noqa: S105 - a path
    REVOKE = "/oauth2/revoke_token/"
    DISCOVERY = "/oauth2/.well-known/openid-configuration"
    JWKS = "/oauth2/.well-known/jwks.json"
    USERS_ME = "/api/users/me"
    #: Redirect URIs of the application's OAuth client in the LMS: the LMS redirects to them when it
    #: grants a learner's tokens.
    LANDINGS = ("/login/_private/complete", "/_/auth/complete")
    LOGOUT = "/logout/"
    #: Ends the session of an API gateway (MITx Online has APISIX with openid-connect).
    GATEWAY_LOGOUT = "/logout/oidc"
    WEBHOOKS = "/usher/webhooks/lms/"
    BACKCHANNEL_LOGOUT = "/usher/backchannel-logout/"
    HEALTH_LIVE = "/health/live"
    HEALTH_READY = "/health/ready"
    METRICS = "/metrics"


def in_path(value: str) -> str:
    """``value`` quoted as one path segment: course keys hold ``+`` and ``:``."""
    return quote(value, safe="")
