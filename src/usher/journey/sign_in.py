"""Signs in to the LMS as a browser does: once as an anonymous visitor, and once as a learner of the
application.

Every step is a request that a browser would send; no result is inferred from settings.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from usher.contract import agents, temporary_learners
from usher.contract.answers import json_object
from usher.contract.cookies import session_cookies_collide
from usher.contract.editions import START_GATEWAY
from usher.contract.paths import LmsPath
from usher.contract.refusals import status_and_sentence
from usher.journey.steps import (
    TIMEOUT,
    BrokenError,
    Browser,
    LoopError,
    UnreachableError,
    without_query,
)

#: Runs ``learner.py`` in the application with the given PARAMS and returns its result.
Script = Callable[[dict[str, Any]], dict[str, Any]]
#: The mode in which the test learner is enrolled.
MODE = "audit"
#: The message of PostgreSQL, SQLite or MySQL about a missing table, in a log or on Django's debug
#: page.
_NO_TABLE = re.compile(
    r"relation \"(\S+?)\" does not exist|no such table: ([^\s<]+)|Table '(\S+?)' doesn't exist"
)
_FIX_FOR_GATEWAY = (
    "the application signs people in at its API gateway only, and the LMS does not send them "
    "there; connect again with --url and the gateway's address, such as "
    "http://mitxonline.odl.local:9080"
)


@dataclass(frozen=True)
class Target:
    """The LMS and the application to sign in with.

    lms_url, application_url: addresses for browsers. token: the service worker's. has_gateway:
    whether people sign in to the application at an API gateway. logs_command: shows the LMS's
    log."""

    lms_url: str
    application_url: str
    backend: str
    token: str = field(repr=False)
    has_gateway: bool = False
    logs_command: str = "tutor local logs --tail=100 lms"

    def sign_in_url(self, page: str) -> str:
        """Returns the address that starts sign-in at the LMS. After sign-in the LMS opens ``page``,
        a path."""
        query = urlencode({"auth_entry": "login", "next": page})
        return f"{self.lms_url}{LmsPath.sign_in_start(self.backend)}?{query}"

    @property
    def lms_host(self) -> str:
        """Host and port of the LMS."""
        return urlsplit(self.lms_url).netloc

    @property
    def application_host(self) -> str:
        """Host and port of the application."""
        return urlsplit(self.application_url).netloc

    @property
    def hosts(self) -> tuple[str, str]:
        return self.lms_host, self.application_host


@dataclass(frozen=True)
class Proof:
    """The result of a successful sign-in. summary: a sentence about the learner's steps. leftovers:
    a sentence about records that could not be removed, or ''."""

    summary: str
    leftovers: str = ""


def prove_as_anonymous(target: Target) -> str:
    """Follows sign-in to the application's sign-in page. Returns a sentence for people. Raises
    BrokenError, but not if sign-in continues at a host, other than the application's and the LMS's,
    that does not answer."""
    browser = Browser()
    try:
        page = browser.follow(target.sign_in_url(LmsPath.DASHBOARD))
    except LoopError as error:
        raise LoopError(f"sign-in never ends: {error}", _fix_for_loop(browser, target)) from error
    except UnreachableError as error:
        if error.host in target.hosts:
            start_gateway = f"start the API gateway (in its checkout: `{START_GATEWAY}`)"
            fix = start_gateway if target.has_gateway else "start it"
            raise BrokenError(str(error), fix) from error
        return f"sign-in continues at {error.host}, which was not followed: it does not answer here"
    finally:
        browser.close()
    final_url = without_query(str(page.url))
    if page.status_code >= httpx.codes.BAD_REQUEST:
        detail = f": {heading}" if (heading := _heading(page)) else ""
        raise BrokenError(
            f"sign-in ends at {final_url}, which answers {page.status_code}{detail}",
            _fix_for_error_page(page, final_url),
        )
    if urlsplit(final_url).netloc == target.lms_host:
        raise BrokenError(
            f"an anonymous visitor ends at {final_url}, a page of the LMS, instead of the "
            "application's sign-in page",
            "the provider record may be disabled; run `usher doctor`",
        )
    return f"people sign in at {final_url}"


def missing_table(error_text: str) -> str:
    """Returns the database table that an application's error names as missing; '' for none."""
    match = _NO_TABLE.search(error_text)
    return next(filter(None, match.groups())) if match else ""


def _fix_for_error_page(page: httpx.Response, final_url: str) -> str:
    """Returns advice about a page at which sign-in ended with an error status."""
    if table := missing_table(unescape(page.text)):
        return (
            f"create the missing table {table}: manage.py migrate; for a cache's table: manage.py "
            "createcachetable"
        )
    return (
        f"the page fails: read the log of the server at {urlsplit(final_url).netloc}. A new "
        "database has no tables for caches until you run manage.py createcachetable"
    )


def _fix_for_loop(browser: Browser, target: Target) -> str:
    """Returns advice about a sign-in whose redirects never end."""
    pages = [urlsplit(page) for page in browser.visited]
    includes_sign_in_page = any(
        "/login" in page.path and page.netloc in target.hosts for page in pages
    )
    if target.has_gateway and includes_sign_in_page:
        return _FIX_FOR_GATEWAY
    return (
        "the application's sign-in page redirects back to the page that redirected to it; check "
        "LOGIN_URL. MITx Online signs people in only at its API gateway: set "
        "MITOL_APIGATEWAY_DISABLE_MIDDLEWARE=False in its .env, start the gateway (in its "
        f"checkout: `{START_GATEWAY}`), connect again"
    )


def prove_with_test_learner(target: Target, run_script: Script) -> Proof:
    """Creates a test learner, signs the learner in, enrolls them in a course and opens it. Removes
    the learner afterwards. Raises BrokenError, httpx.HTTPError and the errors of ``run_script``."""
    username = temporary_learners.new_username("usher-test")
    enrolled_runs: list[str] = []
    clauses: list[str] = []
    try:
        session = run_script({"action": "make", "username": username})
        with _browser_with_session(target, session) as browser:
            clauses.append(_sign_in_learner(browser, target, username, session["cookie"]))
            clauses.append(_enroll_and_open_course(browser, target, username, enrolled_runs))
    finally:
        # Remove the learner from the application first; otherwise it would create the LMS account
        # again.
        try:
            run_script({"action": "remove", "username": username})
        finally:
            leftovers = _remove_at_lms(target, username, enrolled_runs)
    return Proof(", ".join(clauses) + ("" if leftovers else ", and was removed"), leftovers)


@contextmanager
def _browser_with_session(target: Target, session: dict[str, Any]) -> Iterator[Browser]:
    """A browser that is signed in to the application. session: the result of ``learner.make``."""
    browser = Browser()
    host = urlsplit(target.application_url).hostname or ""
    # Cookie jars add .local to a host name without a dot.
    domain = host if "." in host else f"{host}.local"
    browser.client.cookies.set(session["cookie"], session["session"], domain=domain)
    try:
        yield browser
    finally:
        browser.close()


def _fix_for_no_sign_in(target: Target, final_url: str, session_cookie: str) -> str:
    """Returns advice for a sign-in that ended at ``final_url``, and after which the learner is not
    signed in to the LMS. session_cookie: the name of the application's session cookie."""
    if session_cookies_collide(target.application_url, session_cookie, target.lms_url):
        return (
            f"the application and the LMS have a session cookie named {session_cookie} on the same "
            "host, so each replaces the other's cookie: use another host name for one of them, "
            "such as localhost in place of 127.0.0.1"
        )
    if urlsplit(final_url).netloc == target.application_host:
        # The application does not accept the session that its manage.py made.
        return (
            "restart the application if its .env has changed: SECRET_KEY signs its sessions. "
            f"Otherwise read the LMS's log: {target.logs_command}"
        )
    return target.logs_command


def _sign_in_learner(browser: Browser, target: Target, username: str, session_cookie: str) -> str:
    """Signs the learner in to the LMS. Returns a sentence for people. Raises BrokenError.
    session_cookie: the name of the application's session cookie, for the error's advice."""
    try:
        page = browser.follow(target.sign_in_url(LmsPath.DASHBOARD), only=target.hosts)
    except LoopError as error:
        raise LoopError(f"sign-in never ends: {error}", _fix_for_loop(browser, target)) from error
    # The dashboard differs between releases. This endpoint of the LMS names the signed-in user in
    # every release.
    me = browser.client.get(target.lms_url + LmsPath.ME)
    final_url = without_query(str(page.url))
    if me.status_code != httpx.codes.OK:
        detail = f": {heading}" if (heading := _heading(page)) else ""
        raise BrokenError(
            f"a learner's sign-in ends at {final_url} with {page.status_code}{detail}; the LMS did "
            "not sign the learner in",
            _fix_for_no_sign_in(target, final_url, session_cookie),
        )
    lms_username = json_object(me.content).get("username")
    if not lms_username:
        raise BrokenError(f"{LmsPath.ME} of the LMS answers 200 and names no learner")
    if lms_username != username:
        raise BrokenError(f"{username} is signed in to the LMS as {lms_username}")
    return f"{username} signed in to the LMS"


def _heading(page: httpx.Response) -> str:
    """Returns the heading of a page, at most 200 characters; '' if it has none. The page with which
    the LMS plugin stops a sign-in has one."""
    match = re.search(r"<h1[^>]*>(.*?)</h1>", page.text, re.DOTALL)
    if match is None:
        return ""
    without_tags = re.sub(r"<[^>]+>", " ", match[1])
    return " ".join(unescape(without_tags).split())[:200]


def _enroll_and_open_course(
    browser: Browser, target: Target, username: str, enrolled_runs: list[str]
) -> str:
    """Enrolls the learner in the first course of the LMS, adds this run to ``enrolled_runs``, and
    opens the course; does nothing if the LMS lists no course. Returns what the learner did, as the
    end of a sentence that begins with the learner. Raises BrokenError."""
    with httpx.Client(
        base_url=target.lms_url, headers=agents.CONNECT, timeout=TIMEOUT, trust_env=False
    ) as client:
        headers = {"Authorization": f"Bearer {target.token}"}
        course_list = client.get(LmsPath.COURSES, params={"page_size": 5}, headers=headers)
        courses = json_object(course_list.content).get("results")
        if not course_list.is_success or not isinstance(courses, list):
            reason = status_and_sentence(course_list.status_code, course_list.text)
            raise BrokenError(f"the LMS's list of courses answers {reason}")
        if not courses:
            return "found no course to open"
        run = str(courses[0]["course_id"])
        client.cookies.clear()  # else the LMS uses the session that its answer may have set
        answer = client.post(
            LmsPath.ENROLLMENT,
            headers=headers,
            json={"user": username, "mode": MODE, "course_details": {"course_id": run}},
        )
    if not answer.is_success:
        refusal = status_and_sentence(answer.status_code, answer.text)
        raise BrokenError(f"enrolling {username} in {run} answers {refusal}")
    enrolled_runs.append(run)

    url = target.lms_url + LmsPath.COURSE_HOME.format(course_key=run)
    page = browser.follow(url, only=(target.lms_host,))
    final_path = urlsplit(str(page.url)).path
    must_sign_in = final_path.startswith((LmsPath.LOGIN, LmsPath.REGISTER, "/auth/"))
    if page.status_code >= httpx.codes.BAD_REQUEST or must_sign_in:
        raise BrokenError(f"the course {run} ends at {final_path} with {page.status_code}")
    return f"was enrolled in {run} and opened it"


def _remove_at_lms(target: Target, username: str, enrolled_runs: list[str]) -> str:
    """Unenrolls and deactivates the learner, since an LMS can't delete an account. Returns a
    sentence about records that are still active, or ''."""
    sentences: list[str] = []
    with httpx.Client(
        base_url=target.lms_url, headers=agents.CONNECT, timeout=TIMEOUT, trust_env=False
    ) as client:
        client.headers["Authorization"] = f"Bearer {target.token}"
        try:
            status = client.get(f"{LmsPath.ACCOUNTS}/{username}").status_code
            if status == httpx.codes.NOT_FOUND:
                return ""  # there is no such LMS account
            if status != httpx.codes.OK:
                return f"the LMS account {username} may still exist: the LMS answered {status}"
            for run in enrolled_runs:
                body = {
                    "user": username,
                    "mode": MODE,
                    "is_active": False,
                    "course_details": {"course_id": run},
                }
                if not client.post(LmsPath.ENROLLMENT, json=body).is_success:
                    sentences.append(f"{username} is still enrolled in {run}")
            if not _deactivate(client, username):
                sentences.append(f"the LMS account {username} is still active")
        except httpx.HTTPError as error:
            sentences.append(f"the LMS account {username} may still exist: {error}")
    return "; ".join(sentences)


def _deactivate(client: httpx.Client, username: str) -> bool:
    """Deactivates the LMS account through the batch API. Returns whether it is inactive now."""
    item = {
        "id": "1",
        "username": username,
        "email": f"{username}@learners.example",
        "name": "Usher Testlearner",
        "is_active": False,
    }
    answer = client.post(LmsPath.USHER_ACCOUNTS, json={"items": [item]})
    if not answer.is_success:
        return False
    match json_object(answer.content):
        case {"results": [{"status": "updated" | "exists"}]}:  # "exists": it was inactive already
            return True
    return False
