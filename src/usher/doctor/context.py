"""The objects that doctor examines: an embedded LMS, a Tutor root, a checkout, or only two
addresses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from usher.contract.environment import Env
from usher.contract.folders import is_locked
from usher.contract.oauth import DEFAULT_BACKEND, social_login_path
from usher.contract.report import LmsReport
from usher.doctor.facts.application import Application
from usher.doctor.facts.commands import Command
from usher.doctor.facts.lms import Lms
from usher.doctor.facts.machine import Machine
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.tutor import Tutor
from usher.doctor.facts.web import Web
from usher.doctor.fixes import Deployment

#: How far the setup is, as a sentence for people: the values of ``Context.stage``.
NOT_BEGUN = "sign-in through the application is not set up in the LMS"
RECORD_NEXT = "the LMS's settings are done; its provider record comes next"
APPLICATION_NEXT = "the LMS is set up; the application's settings come next"
CONNECTED = "connected"


@dataclass
class Context:
    """The sources of facts for the checks. Each fact is collected once, when it is first needed.
    Call ``close`` after the checks.

    lms: the LMS, at its address for browsers and this machine. lms_manage: the command that runs an
    embedded LMS's ``manage.py lms``. demo_home, dev_home: as in ``Places``.
    """

    lms: Lms
    application: Application
    tutor: Tutor = field(default_factory=lambda: Tutor(None))
    machine: Machine = field(default_factory=Machine)
    web: Web = field(default_factory=Web)
    lms_manage: Command | None = None
    demo_home: Path | None = None
    dev_home: Path | None = None

    @property
    def deployment(self) -> Deployment:
        """The program that runs the LMS."""
        if self.demo_home is not None:
            return Deployment.DEMO
        if self.dev_home is not None:
            return Deployment.DEV
        if self.tutor.has_root:
            return Deployment.TUTOR
        return Deployment.EMBEDDED if self.lms_manage is not None else Deployment.OTHER

    @property
    def stopped_notice(self) -> str:
        """Says that ``usher demo`` or ``usher dev``, which runs the application, its worker and the
        LMS, is stopped; '' if it is running, or if neither is used."""
        home = self.dev_home or self.demo_home
        if home is None or is_locked(home / "lock"):
            return ""
        return f"{'`usher dev`' if self.dev_home else '`usher demo`'} is stopped"

    def close(self) -> None:
        self.web.close()

    def slow_facts(self) -> list[Callable[[], object]]:
        """Functions that collect facts with other programs. At the start all of them are called,
        each in a thread."""
        return [
            lambda: self.lms.report,
            lambda: self.application.report,
            lambda: self.tutor.version,
            lambda: self.tutor.default_root,
        ]

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def backend(self) -> str:
        """The backend in the application's settings; if they are not known, the one that is enabled
        in the LMS."""
        name = self.application.setting(Env.OPENEDX_OAUTH_PROVIDER)
        if name or self.application.knows_settings:
            return name or DEFAULT_BACKEND
        try:
            records = self.lms.report.get("providers", [])
        except NotKnownError:
            records = []
        enabled_backends = [str(row.get("backend_name")) for row in records if row.get("enabled")]
        return enabled_backends[0] if enabled_backends else DEFAULT_BACKEND

    @cached_property
    def api_url(self) -> str:
        """The LMS's address in the application's settings. Raises NotKnownError without one."""
        value = self.application.setting(Env.OPENEDX_API_BASE_URL)
        if not value:
            raise NotKnownError("OPENEDX_API_BASE_URL is not set")
        return value.rstrip("/")

    @property
    def token(self) -> str:
        """The service worker's token. Raises NotKnownError without one."""
        if not self.lms.token:
            raise NotKnownError("the service worker's token is not known")
        return self.lms.token

    @property
    def lms_client_id(self) -> str:
        """The LMS's client id in the application, from the provider record."""
        return str(self.lms.provider(self.backend).get("client_id", ""))

    @property
    def sign_in_path(self) -> str:
        """The LMS's path at which a browser starts to sign in."""
        path = self.application.setting(Env.OPENEDX_SOCIAL_LOGIN_PATH)
        return path or social_login_path(self.backend)

    @cached_property
    def stage(self) -> str:
        """A sentence about how far the setup is; '' if the LMS does not report it."""
        try:
            has_settings = bool(self.lms.feature("ENABLE_THIRD_PARTY_AUTH"))
            has_record = bool(self.lms.report.get("providers"))
        except NotKnownError:
            return ""
        if not has_settings:
            return NOT_BEGUN
        if self.application_is_set_up:
            return CONNECTED  # also if the record was deleted since
        return APPLICATION_NEXT if has_record else RECORD_NEXT

    @property
    def application_is_set_up(self) -> bool:
        """Whether the application has its own OAuth client in the LMS."""
        return bool(self.application.setting(Env.OPENEDX_API_CLIENT_ID))


@dataclass(frozen=True)
class Places:
    """The installation that the operator or a caller names. Everything is optional.

    lms_url: the LMS's address for browsers and this machine. application_url: the application's
    address for browsers. env_file: its ``.env``. manage: the command that runs its ``manage.py``.
    lms_manage: the same for an embedded LMS's ``manage.py lms``. token: the service worker's.
    platform: as ``sys.platform``; '' for this machine's. demo_home: the folder of ``usher demo``.
    dev_home: the folder of ``usher dev``.
    """

    lms_url: str = ""
    application_url: str = ""
    env_file: Path | None = None
    manage: Command | None = None
    lms_manage: Command | None = None
    tutor_root: Path | None = None
    tutor_mode: str = "local"
    tutor_executable: str = "tutor"
    token: str = field(default="", repr=False)
    platform: str = ""
    demo_home: Path | None = None
    dev_home: Path | None = None


def create_context(places: Places) -> Context:
    """Returns the context of this installation. Missing addresses and a missing token are read from
    the ``.env``."""
    web = Web()
    tutor = Tutor(
        root=places.tutor_root, mode=places.tutor_mode, executable=places.tutor_executable
    )
    if places.lms_manage:
        tutor.reason_without_root = "the LMS is an embedded one, without Tutor"
        tutor.is_replaced = True
    application = Application(web, places.application_url, places.env_file, places.manage)
    if not application.url:
        application.url = _application_url(application)
    public_url = application.setting_in_env_file(Env.OPENEDX_BASE_REDIRECT_URL)
    api_url = application.setting_in_env_file(Env.OPENEDX_API_BASE_URL)
    lms_url = places.lms_url or _lms_url_from_tutor(tutor) or public_url or api_url
    lms = Lms(
        web=web,
        url=(lms_url or application.setting(Env.OPENEDX_API_BASE_URL)).rstrip("/"),
        token=places.token or application.setting_in_env_file(Env.OPENEDX_SERVICE_WORKER_API_TOKEN),
        read_report=_report_reader(places.lms_manage, tutor),
    )
    machine = Machine(places.platform) if places.platform else Machine()
    return Context(
        lms=lms,
        application=application,
        tutor=tutor,
        machine=machine,
        web=web,
        lms_manage=places.lms_manage,
        demo_home=places.demo_home,
        dev_home=places.dev_home,
    )


def _report_reader(manage: Command | None, tutor: Tutor) -> Callable[[], LmsReport] | None:
    """A function that reads the LMS's report with a command; None if no command is known."""
    if manage is not None:
        return lambda: manage.json("usher_report")
    return (lambda: tutor.report) if tutor.has_root else None


def _lms_url_from_tutor(tutor: Tutor) -> str:
    """The LMS's address in Tutor's configuration; '' without a Tutor root, or if the configuration
    can't be read."""
    try:
        return tutor.lms_url if tutor.has_root else ""
    except NotKnownError:
        return ""


#: The settings in which applications store their own address for browsers.
OWN_ADDRESSES = ("SITE_BASE_URL", "MITX_ONLINE_BASE_URL", "MITXPRO_BASE_URL")


def _application_url(application: Application) -> str:
    """The application's address for browsers, from its ``.env``, else from its report; '' if it is
    not known."""
    for name in OWN_ADDRESSES:
        value = application.setting_in_env_file(name)
        if urlsplit(value).scheme in ("http", "https"):
            return value.rstrip("/")
    try:
        return application.report.get("site_base_url", "")
    except NotKnownError:
        return ""
