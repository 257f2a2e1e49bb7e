"""Django settings of campus, from environment variables and ``.env``; see ``campus.environment``.

Every setting has a default, so a developer can start without an ``.env``.
"""

from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from campus import logs
from campus.databases import database
from campus.environment import CAMPUS_DIR, Environment
from campus.secret_files import encryption_key, random_key, read_or_create, rsa_key
from usher.application import defaults
from usher.contract.editions import EDITIONS
from usher.contract.environment import Env

env = Environment()

EDITION_NAME = env.text("CAMPUS_EDITION", "mitxonline")
if EDITION_NAME not in EDITIONS:
    raise ImproperlyConfigured(
        f"CAMPUS_EDITION is {EDITION_NAME!r}: write one of {', '.join(EDITIONS)}."
    )
EDITION = EDITIONS[EDITION_NAME]
SITE_NAME = env.text("SITE_NAME", EDITION.title)
SITE_BASE_URL = env.text("SITE_BASE_URL", EDITION.root_url).rstrip("/")
HOME = Path(env.text("CAMPUS_HOME", str(CAMPUS_DIR / ".home")))
HOME.mkdir(mode=0o700, parents=True, exist_ok=True)

_site_url = urlsplit(SITE_BASE_URL)
IS_HTTPS = _site_url.scheme == "https"
DEBUG = env.flag("DEBUG")
SECRET_KEY = env.text("SECRET_KEY") or read_or_create(HOME / "secret_key", random_key)
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = [
    *dict.fromkeys(
        [
            _site_url.hostname or "localhost",
            EDITION.host,
            "localhost",
            "127.0.0.1",
            "host.docker.internal",  # a container's name for this machine
            *env.words("ALLOWED_HOSTS"),
        ]
    )
]
CSRF_TRUSTED_ORIGINS = [SITE_BASE_URL]

INSTALLED_APPS = [
    "campus.staff.CampusAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "accounts",
    "pages",
    *defaults.INSTALLED_APPS,
    "allauth",
    "allauth.account",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "campus.headers.content_security_policy",
    "allauth.account.middleware.AccountMiddleware",
    *defaults.MIDDLEWARE,
]

ROOT_URLCONF = "campus.urls"
WSGI_APPLICATION = "campus.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [CAMPUS_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "pages.context.site",
            ],
        },
    },
]

DATABASES = {"default": database(env.text("DATABASE_URL"), HOME)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.text("REDIS_URL")
if REDIS_URL:
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    }
    SESSION_ENGINE = "django.contrib.sessions.backends.cache"
else:
    # Each process has its own cache, and therefore its own rate limits.
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    SESSION_ENGINE = "django.contrib.sessions.backends.db"

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", REDIS_URL or "memory://")
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# visibility_timeout: seconds after which the message of a killed worker is delivered again. An hour
# is no problem, because the next sweep finds the worker's rows within a minute.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "socket_keepalive": True}
CELERY_BEAT_SCHEDULE_FILENAME = str(HOME / "beat-schedule")
CELERY_BEAT_SCHEDULE = defaults.beat_schedule(
    sweep_seconds=env.number("SWEEP_SECONDS", 60),
    sync_runs_seconds=env.number("SYNC_RUNS_SECONDS", 3600),
)

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = defaults.password_hashers()
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/dashboard/"

ACCOUNT_ADAPTER = "accounts.adapter.CampusAccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*"]
ACCOUNT_FORMS = {"login": "accounts.sign_in.SignInForm"}
ACCOUNT_SIGNUP_FORM_CLASS = "accounts.forms.FullNameForm"
ACCOUNT_EMAIL_VERIFICATION = env.text("ACCOUNT_EMAIL_VERIFICATION", "mandatory")
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = _site_url.scheme
ACCOUNT_EMAIL_SUBJECT_PREFIX = f"{SITE_NAME}: "
ACCOUNT_USER_DISPLAY = "accounts.models.display_name"
# The header in which a proxy passes the visitor's address. The proxy must overwrite the header if a
# visitor sends it.
USHER_CLIENT_ADDRESS_HEADER = env.text("CLIENT_ADDRESS_HEADER")
if USHER_CLIENT_ADDRESS_HEADER:
    ALLAUTH_TRUSTED_CLIENT_IP_HEADER = USHER_CLIENT_ADDRESS_HEADER
# allauth's syntax: attempts/period/per visitor's address (ip) or per account (key).
ACCOUNT_RATE_LIMITS = {
    "login": env.text("RATE_LIMIT_LOGIN", "30/m/ip"),
    "login_failed": env.text("RATE_LIMIT_LOGIN_FAILED", "10/m/ip,5/300s/key"),
    "signup": env.text("RATE_LIMIT_SIGNUP", "20/m/ip"),
}

# The most wrong secrets in a minute before the token endpoint answers 429.
USHER_TOKEN_FAILURES_A_MINUTE = env.integer("USHER_TOKEN_FAILURES_A_MINUTE", 30)

EMAIL_BACKEND = env.text("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")
EMAIL_FILE_PATH = env.text("EMAIL_FILE_PATH") or None
EMAIL_HOST = env.text("EMAIL_HOST", "localhost")
EMAIL_PORT = env.integer("EMAIL_PORT", 25)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS")
SUPPORT_EMAIL = env.text("SUPPORT_EMAIL")
MANAGERS = [(SITE_NAME, SUPPORT_EMAIL)] if SUPPORT_EMAIL else []  # get mails about refusals
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", f"{SITE_NAME} <noreply@{_site_url.hostname}>")

# The names must differ from the names of the LMS's cookies: browsers send a host's cookies to all
# its ports, so cookies of the same name would overwrite each other.
SESSION_COOKIE_NAME = f"{EDITION_NAME}_session"
CSRF_COOKIE_NAME = f"{EDITION_NAME}_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT")
_A_YEAR_IN_SECONDS = 31536000
SECURE_HSTS_SECONDS = int(
    env.text("SECURE_HSTS_SECONDS", str(_A_YEAR_IN_SECONDS) if IS_HTTPS else "0")
)
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "strict-origin-when-cross-origin"
X_FRAME_OPTIONS = "DENY"

OAUTH2_PROVIDER = defaults.oauth2_provider(
    issuer=f"{SITE_BASE_URL}/oauth2",
    rsa_private_key=env.text("OIDC_RSA_PRIVATE_KEY").replace("\\n", "\n")
    or read_or_create(HOME / "oidc_rsa_private_key.pem", rsa_key),
    https_only=IS_HTTPS,
)
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"  # makemigrations asks for it
REST_FRAMEWORK = defaults.rest_framework()
SPECTACULAR_SETTINGS = {
    "TITLE": f"{SITE_NAME} API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns if it is missing
STATICFILES_DIRS = [CAMPUS_DIR / "static"]
WHITENOISE_USE_FINDERS = True  # no collectstatic needed before the first start

LOGGING = logs.settings(env.text("LOG_LEVEL", "INFO").upper())
LOGGING_CONFIG = "campus.logs.configure"

# The settings of the connection to Open edX, with the names of MITx Online and MIT xPro.
# usher.application.conf reads them.
USHER_EDITION = EDITION_NAME
for _name in (value for key, value in vars(Env).items() if key.isupper()):
    globals()[_name] = env.text(_name)
# Concurrency and request rate of the sync worker: ``usher.engine.options``.
USHER_CONCURRENCY = env.integer("USHER_CONCURRENCY", 32)
USHER_LEASE_SECONDS = env.number("USHER_LEASE_SECONDS", 60)
USHER_REQUESTS_A_SECOND = env.number("USHER_REQUESTS_A_SECOND", 0)  # 0: no limit
USHER_USE_BATCH_API = env.flag("USHER_USE_BATCH_API", default=True)
USHER_STOP_SECONDS = env.number("USHER_STOP_SECONDS", 20)
# 0: one mail for each refusal, so that a developer sees the mail immediately.
USHER_DIGEST_MINUTES = env.integer("USHER_DIGEST_MINUTES", 0 if DEBUG else 60)
USHER_INTERACTIVE_QUEUE = env.text("USHER_INTERACTIVE_QUEUE")
USHER_METRICS_TOKEN = env.text("USHER_METRICS_TOKEN")
USHER_METRICS_NETWORKS = env.text("USHER_METRICS_NETWORKS")
# Whose state is kept where the application and the LMS differ.
USHER_ENROLLMENT_WINNER = env.text("USHER_ENROLLMENT_WINNER", "application")
USHER_ACCOUNT_WINNER = env.text("USHER_ACCOUNT_WINNER", "lms")
USHER_ADOPT_ENROLLMENTS = env.flag("USHER_ADOPT_ENROLLMENTS", default=True)
# The loop over Env's names above has set this setting, to '' if the environment has no keys.
USHER_ENCRYPTION_KEYS = globals()["USHER_ENCRYPTION_KEYS"] or read_or_create(
    HOME / "encryption_key", encryption_key
)
