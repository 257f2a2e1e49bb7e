"""``--journey``: a test learner signs in, is enrolled and signs out, by HTTP, and is then
removed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import httpx

from usher.contract import agents, temporary_learners
from usher.contract.paths import ApplicationPath, LmsPath
from usher.contract.refusals import status_and_sentence
from usher.doctor import fixes
from usher.doctor.check import Finding, failed, note, ok, skipped, warning
from usher.doctor.conformance import discovery, learners
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import same_origin
from usher.doctor.journey_browser import Browser, Landing, StrayedError
from usher.doctor.runner import Line

_TIMEOUT = httpx.Timeout(60, connect=10)
_MODE = "audit"
#: Seconds that the two servers may take to notify each other of a sign-out.
_SIGN_OUT_SECONDS = 10.0


@dataclass
class _Learner:
    """The steps of one learner. username: in the application. session: the answer of
    ``journey_learner`` with the application's session. notes: remarks about a successful journey.
    left_over: a text about records that could not be removed from the LMS, or ''."""

    context: Context
    browser: Browser
    username: str
    session: Mapping[str, str]
    lms_username: str = ""
    run: str = ""
    left_over: str = ""
    notes: list[str] = field(default_factory=list)

    def start_anew(self) -> None:
        """Starts with a new browser that is signed in to the application only."""
        host = self.context.application.url.split("/")[2].split(":")[0]
        # Cookie jars add .local to a host name without a dot.
        domain = host if "." in host else f"{host}.local"
        cookies = self.browser.client.cookies
        cookies.clear()
        cookies.set(self.session["cookie"], self.session["session"], domain=domain)
        if self.session.get("csrf"):
            cookies.set(self.session["csrf_cookie"], self.session["csrf"], domain=domain)

    def sign_in(self) -> None:
        """Signs in to the LMS through the application's authorize page.

        An LMS without the plugin shows a new learner its registration form, which only a script in
        a browser can submit. In this case the application creates the account, and the learner
        signs in again.
        """
        landing = self._start()
        if self._is_registration(landing):
            self._make_account()
            self.start_anew()  # otherwise the LMS would continue the sign-in that it has begun
            landing = self._start()
        self.lms_username = self._who_am_i()
        if not self.lms_username:
            raise StrayedError(f"not signed in to the LMS: sign-in ended at {landing.shown}")

    def _start(self) -> Landing:
        return self.browser.go(self.context.lms.at(self.context.sign_in_start))

    def _who_am_i(self) -> str:
        return self.browser.signed_in_as(self.context.lms.url)

    def _is_registration(self, landing: Landing) -> bool:
        at_lms = same_origin(landing.url, self.context.lms.url)
        return at_lms and urlsplit(landing.url).path.rstrip("/") == LmsPath.REGISTER

    def _make_account(self) -> None:
        result = _application(self.context, "account", self.username)
        if result["ready"] is None:
            raise NotKnownError(
                "the LMS's form for new learners needs a browser: enable the usher plugin there, "
                "or sign in once yourself"
            )
        if not result["ready"]:
            raise StrayedError(f"the application could not make the account: {result['error']}")

    def enroll(self) -> None:
        """Enrolls the learner with the service worker's token, as the application does."""
        token = self.context.token
        with httpx.Client(
            base_url=self.context.lms.url, timeout=_TIMEOUT, headers=agents.DOCTOR
        ) as http:
            values = discovery.find_runs(http, token, "")
            if "course" not in values:
                return
            self.run = values["course"]
            http.cookies.clear()
            answer = http.post(
                LmsPath.ENROLLMENT,
                headers=discovery.bearer(token),
                json={
                    "user": self.lms_username,
                    "mode": _MODE,
                    "course_details": {"course_id": self.run},
                },
            )
        if answer.status_code != 200:
            raise StrayedError(
                f"enrolling answers {status_and_sentence(answer.status_code, answer.text)}"
            )

    def sign_out(self) -> None:
        """Signs out of the application; the LMS's session must end as well."""
        self._sign_out_of_application()
        if name := self._who_am_i():
            raise StrayedError(f"signed out of the application, still signed in to the LMS: {name}")

    def _sign_out_of_application(self) -> None:
        address = self.context.application.url + ApplicationPath.LOGOUT
        landing = self.browser.go(address)
        if landing.page is not None and landing.page.status_code == 405:
            landing = self.browser.submit(address)
        if landing.page is not None and landing.page.status_code >= 400:
            raise StrayedError(f"signing out of the application ended at {landing.shown}")

    def sign_out_of_the_lms(self) -> None:
        """Signs out of the LMS. The application's session must end too, by a message between the
        servers or by the frames that the LMS's page loads."""
        self.session = _application(self.context, "session", self.username)
        self.start_anew()
        begun = self._start()
        if not self._who_am_i():
            raise StrayedError(f"a second sign-in to the LMS ended at {begun.shown}")
        landing = self.browser.go(self.context.lms.at(LmsPath.LOGOUT))
        if self._who_am_i():
            raise StrayedError("signing out of the LMS did not end the session there")
        if self._ends_within(_SIGN_OUT_SECONDS if self._uses_backchannel_sign_out() else 0):
            return
        statuses = [self._load(address) for address in self.browser.frames_of(landing)]
        if self._ends_within(0):
            self.notes.append("signing out of the LMS needs the browser's frames")
        elif 405 in statuses:
            self.notes.append(
                "signing out of the LMS does not end the application's session, which accepts a "
                "sign-out by POST only"
            )
        elif self._is_behind_gateway() and not any(status >= 400 for status in statuses):
            self.notes.append(
                "signing out of the LMS asks the API gateway to end its session; the test learner "
                "has none there, so this was not checked"
            )
        else:
            raise StrayedError("signed out of the LMS, still signed in to the application")

    def _uses_backchannel_sign_out(self) -> bool:
        try:
            return bool(self.context.application.report.get("usher"))
        except NotKnownError:
            return True

    def _is_behind_gateway(self) -> bool:
        try:
            return self.context.application.report.get("signs_in_at_gateway", False)
        except NotKnownError:
            return False

    def _load(self, address: str) -> int:
        page = self.browser.go(address).page
        return page.status_code if page is not None else 0

    def _ends_within(self, seconds: float) -> bool:
        """Whether the application's session ends within ``seconds``: then it can't sign in to the
        LMS any more."""
        deadline = monotonic() + seconds
        while self._application_signs_in():
            if monotonic() >= deadline:
                return False
            sleep(0.2)
        return True

    def _application_signs_in(self) -> bool:
        """Whether the application's session still signs in to the LMS. Tries to sign in with
        another browser that has only this session. The first browser would have to sign out of the
        LMS before that, which could itself end the session."""
        with closing(Browser(*self.browser.homes)) as other:
            for cookie in self.browser.client.cookies.jar:
                if cookie.name == self.session["cookie"]:
                    other.client.cookies.jar.set_cookie(cookie)
            other.go(self.context.lms.at(self.context.sign_in_start))
            return bool(other.signed_in_as(self.context.lms.url))


def journey_line(context: Context) -> Line:
    """Makes the journey. Returns its line of the report."""
    return Line("JOURNEY", "A test learner signs in, is enrolled and signs out", _journey(context))


def _journey(context: Context) -> Finding:
    username = temporary_learners.new_username("doctor")
    try:
        with _test_learner(context, username) as learner:
            steps_done = []
            steps = (learner.sign_in, learner.enroll, learner.sign_out, learner.sign_out_of_the_lms)
            for step in steps:
                _take(step)
                steps_done.append(step.__name__.replace("_", " "))
    except NotKnownError as error:
        return skipped(str(error))
    except StrayedError as error:
        return failed(
            str(error),
            cause="no check names a cause: read the logs of this minute",
            fix=fixes.adapt(fixes.LMS_LOGS, context),
        )
    if learner.left_over:
        return warning(
            learner.left_over,
            cause="the LMS has no way to remove learners",
            fix=f"make {learner.lms_username} inactive in the LMS's admin",
        )
    seen = f"{', '.join(steps_done)}; {username} is removed"
    if learner.notes:
        return note(seen, cause="; ".join(learner.notes))
    return ok(seen)


def _take(step: Callable[[], None]) -> None:
    try:
        step()
    except httpx.HTTPError as error:
        raise StrayedError(f"{step.__name__}: {error or type(error).__name__}") from error
    except (ValueError, KeyError, discovery.ConformanceError) as error:
        raise StrayedError(f"{step.__name__}: unexpected answer ({error})") from error


@contextmanager
def _test_learner(context: Context, username: str) -> Iterator[_Learner]:
    """A learner of the application with a session, who is always removed from the application and
    the LMS."""
    made = _application(context, "make", username)
    with closing(Browser(context.application.url, context.lms.url)) as browser:
        learner = _Learner(context, browser, username, made)
        learner.start_anew()
        try:
            yield learner
        finally:
            # From the application first: otherwise its worker would create the account again.
            try:
                _application(context, "remove", username)
            finally:
                learner.left_over = _remove_at_lms(learner)


def _application(context: Context, action: str, username: str) -> dict[str, Any]:
    """Runs a step of ``journey_learner``. The learner's session is passed by a pipe, never as an
    argument."""
    if context.application.manage is None:
        raise NotKnownError("the application's manage.py is not known: give --application")
    script = (files(__package__) / "journey_learner.py").read_text(encoding="utf-8")
    head = f"STEP = {action!r}, {username!r}\n"
    result: dict[str, Any] = context.application.manage.json("shell", stdin=head + script)
    return result


def _remove_at_lms(learner: _Learner) -> str:
    """Removes the LMS account. After an unfinished sign-in, finds the account by the username that
    the learner was to get."""
    name, token = learner.lms_username or learner.username, learner.context.token
    runs = [learner.run] if learner.run else []
    with httpx.Client(
        base_url=learner.context.lms.url, timeout=_TIMEOUT, headers=agents.DOCTOR
    ) as http:
        return learners.remove_where_there(name, runs, http, token)
