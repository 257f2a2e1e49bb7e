"""``--journey``: a throw-away learner walked through the whole chain by HTTP, then removed."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import httpx

from usher.contract.oauth import social_login_path
from usher.contract.paths import ApplicationPath, LmsPath
from usher.doctor.check import Finding, failed, ok, skipped, warning
from usher.doctor.conformance import learners, surroundings
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import same_origin
from usher.doctor.runner import Line

_TIMEOUT = httpx.Timeout(30, connect=5)
_MODE = "audit"


class StrayedError(Exception):
    """A step of the journey ended elsewhere; the message says where."""


@dataclass
class _Walker:
    context: Context
    browser: httpx.Client
    username: str
    session: Mapping[str, str]
    lms_username: str = ""
    run: str = ""
    left_over: str = ""

    def start_anew(self) -> None:
        """Signed in to the application, and nothing else: as a browser that was just opened."""
        host = self.context.application.url.split("/")[2].split(":")[0]
        domain = host if "." in host else f"{host}.local"  # as cookie jars call such names
        self.browser.cookies.clear()
        self.browser.cookies.set(self.session["cookie"], self.session["session"], domain=domain)

    def sign_in(self) -> None:
        """To the LMS, through the application's authorize page.

        An LMS without the plugin shows a new learner its form, which a browser's script sends by
        itself; here the application makes the account, and the learner comes again.
        """
        page = self._start()
        if self._is_at(page, LmsPath.REGISTER):
            self._make_account()
            self.start_anew()  # the LMS would go on with the sign-in that it has begun
            page = self._start()
        if not self._is_at(page, LmsPath.DASHBOARD):
            where = page.url.copy_with(query=None)
            raise StrayedError(f"sign-in ended at {where} with {page.status_code}")

    def _start(self) -> httpx.Response:
        return self.browser.get(self.context.lms.at(social_login_path(self.context.backend)))

    def _is_at(self, page: httpx.Response, path: str) -> bool:
        at_lms = same_origin(str(page.url), self.context.lms.url)
        return at_lms and page.url.path == path and page.status_code == 200

    def _make_account(self) -> None:
        made = _application(self.context, "account", self.username)
        if made["ready"] is None:
            raise NotKnownError(
                "the LMS's form for new learners needs a browser: enable the usher plugin there, "
                "or sign in once yourself"
            )
        if not made["ready"]:
            raise StrayedError(f"the application could not make the account: {made['error']}")

    def who_am_i(self) -> None:
        answer = self.browser.get(self.context.lms.at(LmsPath.ME))
        if answer.status_code != 200:
            raise StrayedError(f"signed in, but {LmsPath.ME} answers {answer.status_code}")
        self.lms_username = answer.json()["username"]

    def enroll(self) -> None:
        """By the service worker, as the application does."""
        token = self.context.token
        with httpx.Client(base_url=self.context.lms.url, timeout=_TIMEOUT) as worker:
            found = surroundings.runs(worker, token, "")
            if "course" not in found:
                return
            self.run = found["course"]
            worker.cookies.clear()
            answer = worker.post(
                LmsPath.ENROLLMENT,
                headers=surroundings.bearer(token),
                json={
                    "user": self.lms_username,
                    "mode": _MODE,
                    "course_details": {"course_id": self.run},
                },
            )
        if answer.status_code != 200:
            raise StrayedError(f"enrolling answers {answer.status_code}: {answer.text[:120]}")

    def sign_out(self) -> None:
        """Of the application; the LMS's session must end as well."""
        self.browser.get(self.context.application.url + ApplicationPath.LOGOUT)
        answer = self.browser.get(self.context.lms.at(LmsPath.DASHBOARD), follow_redirects=False)
        if answer.status_code == 200:
            raise StrayedError("signed out of the application, still signed in to the LMS")


def walk(context: Context) -> Line:
    """The journey as one line of the report."""
    return Line("JOURNEY", "A learner gets through the whole chain", _journey(context))


def _journey(context: Context) -> Finding:
    username = f"doctor-{secrets.token_hex(4)}"
    try:
        with _throw_away(context, username) as walker:
            done = []
            for step in (walker.sign_in, walker.who_am_i, walker.enroll, walker.sign_out):
                _take(step)
                done.append(step.__name__.replace("_", " "))
    except NotKnownError as error:
        return skipped(str(error))
    except StrayedError as error:
        return failed(
            str(error),
            cause="the checks see nothing wrong, so look at both sides' logs of this minute",
            fix="tutor local logs --tail=100 lms",
        )
    if walker.left_over:
        return warning(
            walker.left_over, cause="the LMS has no way to remove learners", fix="see its admin"
        )
    return ok(f"{', '.join(done)}; {username} is removed")


def _take(step: Callable[[], None]) -> None:
    try:
        step()
    except httpx.HTTPError as error:
        raise StrayedError(f"{step.__name__}: {error or type(error).__name__}") from error
    except (ValueError, KeyError, surroundings.ConformanceError) as error:
        raise StrayedError(f"{step.__name__}: unexpected answer ({error})") from error


@contextmanager
def _throw_away(context: Context, username: str) -> Iterator[_Walker]:
    """A learner of the application with a session, removed on both sides whatever happens."""
    made = _application(context, "make", username)
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as browser:
        walker = _Walker(context, browser, username, made)
        walker.start_anew()
        try:
            yield walker
        finally:
            # The application first: while it wants the account, its engine brings it back.
            try:
                _application(context, "remove", username)
            finally:
                walker.left_over = _remove_at_lms(walker)


def _application(context: Context, action: str, username: str) -> dict[str, Any]:
    """The session of a learner goes through a pipe, never through arguments."""
    if context.application.manage is None:
        raise NotKnownError("the application's manage.py is not known: give --application")
    script = (files(__package__) / "journey_learner.py").read_text(encoding="utf-8")
    head = f"STEP = {action!r}, {username!r}\n"
    done: dict[str, Any] = context.application.manage.json("shell", stdin=head + script)
    return done


def _remove_at_lms(walker: _Walker) -> str:
    """Also after a sign-in that got stuck half way: then by the name it would have had."""
    name, token = walker.lms_username or walker.username, walker.context.token
    runs = [walker.run] if walker.run else []
    with httpx.Client(base_url=walker.context.lms.url, timeout=_TIMEOUT) as worker:
        return learners.remove_where_there(name, runs, worker, token)
