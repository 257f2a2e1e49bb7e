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
from usher.doctor.facts.web import host_of, same_origin
from usher.doctor.journey_browser import Browser, JourneyError, Landing
from usher.doctor.runner import Line

_TIMEOUT = httpx.Timeout(60, connect=10)
#: The mode in which the test learner is enrolled.
_MODE = "audit"
#: Seconds that the two servers may take to notify each other of a sign-out.
_SIGN_OUT_SECONDS = 10.0
#: Between two attempts to sign in with the session that a sign-out should have ended.
_SECONDS_BETWEEN_TRIES = 0.2


@dataclass
class _Learner:
    """The steps of one learner. username: in the application. session: the answer of
    ``journey_learner`` with the application's session. notes: remarks about a successful journey.
    leftover_text: names records that could not be removed from the LMS; '' if all were removed."""

    context: Context
    browser: Browser
    username: str
    session: Mapping[str, str]
    lms_username: str = ""
    run: str = ""
    leftover_text: str = ""
    notes: list[str] = field(default_factory=list)

    def start_with_new_cookies(self) -> None:
        """Replaces the browser's cookies by those of a session in the application, so that the
        learner is signed in to the application only."""
        host = host_of(self.context.application.url)
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
        signs in again. Raises JourneyError.
        """
        landing = self._start_sign_in()
        if self._is_registration_page(landing):
            self._create_account()
            # With the old cookies the LMS would continue the sign-in that stopped at the form.
            self.start_with_new_cookies()
            landing = self._start_sign_in()
        self.lms_username = self._username_in_lms()
        if not self.lms_username:
            raise JourneyError(f"not signed in to the LMS: sign-in ended at {landing.description}")

    def _start_sign_in(self) -> Landing:
        return self.browser.go(self.context.lms.at(self.context.sign_in_path))

    def _username_in_lms(self) -> str:
        return self.browser.signed_in_as(self.context.lms.url)

    def _is_registration_page(self, landing: Landing) -> bool:
        is_at_lms = same_origin(landing.url, self.context.lms.url)
        return is_at_lms and urlsplit(landing.url).path.rstrip("/") == LmsPath.REGISTER

    def _create_account(self) -> None:
        """Makes the application create the learner's LMS account. Raises NotKnownError if the
        application is not built on Usher, and JourneyError if it can't create the account."""
        result = _run_learner_script(self.context, "account", self.username)
        if result["ready"] is None:
            raise NotKnownError(
                "the LMS's form for new learners needs a browser: enable the Tutor plugin usher, "
                "which signs in without the form, or test the sign-in yourself in a browser"
            )
        if not result["ready"]:
            raise JourneyError(f"the application could not create the account: {result['error']}")

    def enroll(self) -> None:
        """Enrolls the learner with the service worker's token, as the application does. Does
        nothing if the LMS shows no run that is open to enrollment. Raises JourneyError if the LMS
        refuses."""
        token = self.context.token
        with httpx.Client(
            base_url=self.context.lms.url, timeout=_TIMEOUT, headers=agents.DOCTOR
        ) as http:
            values = discovery.find_runs(http, token, username="")
            if "course" not in values:
                return
            self.run = values["course"]
            http.cookies.clear()  # else the LMS uses the session that its answer may have set
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
            raise JourneyError(
                f"enrolling answers {status_and_sentence(answer.status_code, answer.text)}"
            )

    def sign_out(self) -> None:
        """Signs out of the application; the LMS's session must end as well. Raises JourneyError."""
        self._sign_out_of_application()
        if name := self._username_in_lms():
            raise JourneyError(f"signed out of the application, still signed in to the LMS: {name}")

    def _sign_out_of_application(self) -> None:
        """Signs out with GET, or with POST if the application accepts nothing else. Raises
        JourneyError."""
        address = self.context.application.url + ApplicationPath.LOGOUT
        landing = self.browser.go(address)
        accepts_only_post = landing.page is not None and landing.page.status_code == 405
        if accepts_only_post:
            landing = self.browser.submit(address)
        if landing.page is not None and landing.page.status_code >= 400:
            raise JourneyError(f"signing out of the application ended at {landing.description}")

    def sign_out_of_the_lms(self) -> None:
        """Signs out of the LMS. The application's session must end too, by a message between the
        servers or by the frames that the LMS's page loads. Raises JourneyError."""
        # ``sign_out`` has ended the earlier session in the application.
        self.session = _run_learner_script(self.context, "session", self.username)
        self.start_with_new_cookies()
        second_landing = self._start_sign_in()
        if not self._username_in_lms():
            raise JourneyError(f"a second sign-in to the LMS ended at {second_landing.description}")
        landing = self.browser.go(self.context.lms.at(LmsPath.LOGOUT))
        if self._username_in_lms():
            raise JourneyError("signing out of the LMS did not end the session there")
        max_wait = _SIGN_OUT_SECONDS if self._uses_backchannel_sign_out() else 0
        if self._application_session_ends_within(seconds=max_wait):
            return
        self._sign_out_by_frames(landing)

    def _sign_out_by_frames(self, landing: Landing) -> None:
        """Loads the frames of the LMS's sign-out page, as a browser does. If the application's
        session does not end, adds a note about the reason, or raises JourneyError if none is
        known."""
        statuses = [self._status_of(address) for address in self.browser.frames_of(landing)]
        if self._application_session_ends_within(seconds=0):
            self.notes.append("signing out of the LMS needs the browser's frames")
        elif 405 in statuses:
            self.notes.append(
                "signing out of the LMS does not end the application's session, which accepts a "
                "sign-out by POST only"
            )
        elif self._is_behind_gateway() and all(status < 400 for status in statuses):
            self.notes.append(
                "signing out of the LMS asks the API gateway to end its session; this was not "
                "checked, because the test learner has no session at the API gateway"
            )
        else:
            raise JourneyError("signed out of the LMS, still signed in to the application")

    def _uses_backchannel_sign_out(self) -> bool:
        """Whether the LMS may notify the application of a sign-out; True if that is unknown."""
        try:
            return bool(self.context.application.report.get("usher"))
        except NotKnownError:
            return True

    def _is_behind_gateway(self) -> bool:
        """Whether the application signs people in at an API gateway; False if that is unknown."""
        try:
            return self.context.application.report.get("signs_in_at_gateway", False)
        except NotKnownError:
            return False

    def _status_of(self, address: str) -> int:
        """The status of the page; 0 if its server does not answer here."""
        page = self.browser.go(address).page
        return page.status_code if page is not None else 0

    def _application_session_ends_within(self, seconds: float) -> bool:
        """Waits at most ``seconds``. Returns whether the application's session ended, so that the
        learner can't sign in to the LMS with it any more."""
        deadline = monotonic() + seconds
        while self._application_session_signs_in():
            if monotonic() >= deadline:
                return False
            sleep(_SECONDS_BETWEEN_TRIES)
        return True

    def _application_session_signs_in(self) -> bool:
        """Whether the learner can still sign in to the LMS with the application's session. Tries it
        in another browser, which has only this session: the first browser would have to sign out of
        the LMS first, and that could end the session."""
        with closing(Browser(*self.browser.server_urls)) as other_browser:
            for cookie in self.browser.client.cookies.jar:
                if cookie.name == self.session["cookie"]:
                    other_browser.client.cookies.jar.set_cookie(cookie)
            other_browser.go(self.context.lms.at(self.context.sign_in_path))
            return bool(other_browser.signed_in_as(self.context.lms.url))


def journey_line(context: Context) -> Line:
    """Makes the journey. Returns its line of the report."""
    return Line(
        id="JOURNEY",
        title="A test learner signs in, is enrolled and signs out",
        finding=_journey(context),
    )


def _journey(context: Context) -> Finding:
    """Makes the steps up to the first that fails, and removes the learner. Returns the finding."""
    username = temporary_learners.new_username("doctor")
    learner: _Learner | None = None
    try:
        with _test_learner(context, username) as learner:
            steps_done = []
            steps = (learner.sign_in, learner.enroll, learner.sign_out, learner.sign_out_of_the_lms)
            for step in steps:
                _run_step(step)
                steps_done.append(_title(step))
    except NotKnownError as error:
        # Without a learner, nothing is left: the application could not create one.
        return skipped(_with_leftovers(error, learner) if learner else str(error))
    except JourneyError as error:
        return failed(
            _with_leftovers(error, learner) if learner else str(error),
            cause="not known: no check failed; the logs of this minute may show it",
            fix=fixes.adapt(fixes.LMS_LOGS, context),
        )
    if learner.leftover_text:
        return warning(
            learner.leftover_text,
            cause="the test learner could not be removed everywhere",
            fix=f"delete {username} in the application's admin, and make the LMS account inactive "
            "in the LMS's admin",
        )
    seen = f"{', '.join(steps_done)}; {username} is removed"
    if learner.notes:
        return note(seen, cause="; ".join(learner.notes))
    return ok(seen)


def _with_leftovers(error: Exception, learner: _Learner) -> str:
    """The error's text, and what could not be removed of the learner."""
    return "; ".join(filter(None, (str(error), learner.leftover_text)))


def _run_step(step: Callable[[], None]) -> None:
    """Makes one step of the journey. Raises JourneyError."""
    try:
        step()
    except httpx.HTTPError as error:
        raise JourneyError(f"{_title(step)}: {error or type(error).__name__}") from error
    except (ValueError, KeyError, discovery.ConformanceError) as error:
        raise JourneyError(f"{_title(step)}: unexpected answer ({error})") from error


def _title(step: Callable[[], None]) -> str:
    """The step for people: ``sign out of the lms``."""
    return step.__name__.replace("_", " ")


@contextmanager
def _test_learner(context: Context, username: str) -> Iterator[_Learner]:
    """Creates a learner of the application with a session. After the block, removes the learner
    from the application and the LMS, and sets ``leftover_text``."""
    session = _run_learner_script(context, "make", username)
    with closing(Browser(context.application.url, context.lms.url)) as browser:
        learner = _Learner(context, browser, username, session)
        learner.start_with_new_cookies()
        try:
            yield learner
        finally:
            # First from the application, because its worker would create the LMS account again.
            leftovers: list[str] = []
            try:
                leftovers.append(_remove_from_application(learner))
            finally:
                leftovers.append(_remove_lms_account(learner))
                learner.leftover_text = "; ".join(filter(None, leftovers))


def _run_learner_script(context: Context, action: str, username: str) -> dict[str, Any]:
    """Runs an action of ``journey_learner`` in the application. The learner's session is passed
    through a pipe, never as an argument. Raises NotKnownError."""
    if context.application.manage is None:
        raise NotKnownError("the application's manage.py is not known: give --application")
    script = (files(__package__) / "journey_learner.py").read_text(encoding="utf-8")
    parameters = f"STEP = {action!r}, {username!r}\n"
    result: dict[str, Any] = context.application.manage.json("shell", stdin=parameters + script)
    return result


def _remove_from_application(learner: _Learner) -> str:
    """Removes the learner from the application. Returns a text about what could not be removed, or
    ''."""
    try:
        _run_learner_script(learner.context, "remove", learner.username)
    except NotKnownError as error:
        return f"{learner.username} may still be in the application: {error}"
    return ""


def _remove_lms_account(learner: _Learner) -> str:
    """Removes the LMS account. Returns a text about what could not be removed, or '', also if the
    LMS does not answer. After an unfinished sign-in, assumes that the account has the learner's
    username in the application."""
    name, token = learner.lms_username or learner.username, learner.context.token
    runs = [learner.run] if learner.run else []
    try:
        with httpx.Client(
            base_url=learner.context.lms.url, timeout=_TIMEOUT, headers=agents.DOCTOR
        ) as http:
            return learners.remove_if_present(name, runs, http, token)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"the account {name} may still be in the LMS: {error or type(error).__name__}"
