"""A test learner uses the application and the LMS as a browser does; each step is checked."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from usher.cli.demo.browser import Browser
from usher.cli.demo.credentials import new_password
from usher.cli.demo.errors import DemoError
from usher.cli.demo.pair import Pair
from usher.cli.demo.setup import Step
from usher.contract.oauth import DEFAULT_BACKEND, social_login_path
from usher.contract.paths import LmsPath, in_path

DEMO_RUN = "course-v1:edX+DemoX+Demo_Course"
#: How long the worker may take for an account, a token or an enrollment.
WORKER_SECONDS = 90.0
#: Name of the file in the demo's folder which says that `--trouble` has broken things there.
TROUBLE_FILE = "trouble.json"
#: The code in allauth's mail is alone on its line: AB12-CD34, or letters only.
CODE_IN_MAIL = r"^([A-Z0-9]{3,}(?:-[A-Z0-9]{3,})*)$"

#: A script for ``manage.py shell``: deletes the learner's token.
DELETION_SCRIPT = """
from usher.application.models import LmsToken
count, _ = LmsToken.objects.filter(user__username="{username}").delete()
print("deleted", count)
"""


def last_line(output: str) -> str:
    """The last line of a command's output, its summary, without the leading mark."""
    return output.strip().splitlines()[-1].lstrip("✓✗ ")


class LearnerJourney:
    """The learner signs up, gets an LMS account and a token, signs in to the LMS, opens the
    dashboard, is enrolled, and signs out. Before signing out, course runs are synced and a lost
    token is repaired. Each step needs the earlier ones, so a failed step is the last one."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.browser = Browser()
        #: Sends requests to the LMS's API with the service worker's token.
        self._lms_client = httpx.Client(
            base_url=pair.lms_url,
            headers={"Authorization": f"Bearer {pair.credentials.service_worker_token}"},
            timeout=30,
            trust_env=False,
        )
        self.username = f"learner-{secrets.token_hex(4)}"
        self.email = f"{self.username}@learners.example"
        self.password = new_password()
        #: '' before ``wait_for_lms_account``.
        self.lms_username = ""

    def steps(self) -> Iterator[Step]:
        """Does the steps in order and yields each when it is done. The first step that failed is
        the last."""
        actions: list[tuple[str, Callable[[], str]]] = [
            ("sign-up", self.sign_up),
            ("lms-account", self.wait_for_lms_account),
            ("sign-in-lms", self.sign_in_to_lms),
            ("dashboard", self.open_dashboard),
            ("enroll", self.enroll),
            ("sync-runs", self.sync_runs),
            ("repair", self.repair_token),
            ("sign-out", self.sign_out),
        ]
        try:
            for name, action in actions:
                started = time.monotonic()
                try:
                    detail, ok = action(), True
                except (DemoError, httpx.HTTPError) as error:
                    detail, ok = str(error) or type(error).__name__, False
                yield Step(id=name, ok=ok, seconds=time.monotonic() - started, detail=detail)
                if not ok:
                    return
        finally:
            self.browser.close()
            self._lms_client.close()

    # -- the steps: each returns one line for people, or raises DemoError

    def sign_up(self) -> str:
        page = self.browser.get(self._application_url("/accounts/signup/"))
        answer = self.browser.submit(
            page,
            "/accounts/signup/",
            username=self.username,
            email=self.email,
            name="Ada Lovelace",
            password1=self.password,
        )
        self._require(answer.status_code == 200, f"sign-up answered {answer.status_code}")
        match = re.search(CODE_IN_MAIL, self.pair.newest_mail(self.email), re.MULTILINE)
        self._require(match is not None, f"no code was mailed to {self.email}")
        assert match  # noqa: S101 - for the type checker; checked above
        self.browser.submit(answer, "/confirm-email/", code=match[1])
        page = self.browser.get(self._application_url("/dashboard/"))
        self._require(page.url.path == "/dashboard/", "signing up did not sign the learner in")
        return f"{self.username} signed up and confirmed the e-mail address"

    def wait_for_lms_account(self) -> str:
        """Waits until the worker has created the account and its token."""
        account, *_ = self._wait_for(
            lambda: self._list_from_lms(LmsPath.ACCOUNTS, email=self.email), "an LMS account"
        )
        self.lms_username = account["username"]
        self._wait_for(lambda: not self._lacks_account_or_token(), "an LMS token")
        return f"the worker created the LMS account {self.lms_username} and its token"

    def sign_in_to_lms(self) -> str:
        page = self.browser.get(self.pair.lms_url + social_login_path(DEFAULT_BACKEND))
        self._require(
            str(page.url) == self.pair.lms_url + LmsPath.DASHBOARD and page.status_code == 200,
            f"sign-in ended at {page.url.copy_with(query=None)} with {page.status_code}",
        )
        redirects = len(page.history)
        return (
            f"the LMS signed the learner in through {self.pair.edition.title}, "
            f"{redirects} redirects"
        )

    def open_dashboard(self) -> str:
        page = self.browser.get(self._lms_url(LmsPath.DASHBOARD))
        self._require(self.lms_username in page.text, "the LMS dashboard does not name the learner")
        return f"the LMS's dashboard shows {self.lms_username}"

    def enroll(self) -> str:
        # Reads the run from the LMS, such as its title and its dates.
        self.pair.manage_application("sync_courserun", "--run", DEMO_RUN)
        page = self.browser.get(self._application_url(f"/courses/{in_path(DEMO_RUN)}/"))
        self.browser.submit(page, "/enroll/")
        enrollment = self._wait_for(self._find_enrollment, "the enrollment in the LMS")
        run = self.browser.get(self._lms_url(LmsPath.COURSE_HOME.format(course_key=DEMO_RUN)))
        self._require(run.status_code == 200, f"the run's page answered {run.status_code}")
        return (
            f"enrolled in {enrollment['course_details']['course_name']}, mode {enrollment['mode']}"
        )

    def sync_runs(self) -> str:
        """Runs the edition's command that reads the course runs from the LMS."""
        command = self.pair.edition.sync_command
        if (self.pair.home / TROUBLE_FILE).exists():
            # The edition's own command would fail because of the runs that were broken.
            command = ("sync_courserun", "--run", DEMO_RUN)
        out = self.pair.manage_application(*command)
        return last_line(out)

    def repair_token(self) -> str:
        """Deletes the learner's token and runs the application's repair command."""
        output = self.pair.manage_application(
            "shell", stdin=DELETION_SCRIPT.format(username=self.username)
        )
        self._require(output.strip().endswith("deleted 1"), "the learner had no token to delete")
        out = self.pair.manage_application(
            *self.pair.edition.repair_command, "--user", self.username
        )
        self._require(not self._lacks_account_or_token(), "the token was not repaired")
        return f"deleted the token and restored it: {last_line(out)}"

    def sign_out(self) -> str:
        """Signs out of the application, which must end the session in the LMS, too."""
        self.browser.get(self._application_url("/logout/"))
        application_page = self.browser.get(self._application_url("/dashboard/"))
        self._require(
            "/accounts/login/" in str(application_page.url), "still signed in to the application"
        )
        lms_page = self.browser.client.get(self._lms_url(LmsPath.DASHBOARD), follow_redirects=False)
        self._require(lms_page.status_code == 302, "still signed in to the LMS")
        return "the sessions in the application and in the LMS ended"

    # -- requests to the application and the LMS

    def _application_url(self, path: str) -> str:
        return self.pair.application_url + path

    def _lms_url(self, path: str) -> str:
        return self.pair.lms_url + path

    def _list_from_lms(self, path: str, **query: str) -> list[Any]:
        """The list at ``path`` of the LMS's API; empty if the LMS answers with an error."""
        answer = self._lms_client.get(path, params=query)
        return list(answer.json()) if answer.status_code == 200 else []

    def _find_enrollment(self) -> dict[str, Any] | None:
        """The learner's active enrollment in the demo's run; None while the LMS has none."""
        answer = self._lms_client.get(f"{LmsPath.ENROLLMENT}/{self.lms_username},{DEMO_RUN}")
        if answer.status_code != 200 or not answer.content:
            return None
        enrollment = answer.json()
        return enrollment if enrollment and enrollment["is_active"] else None

    def _lacks_account_or_token(self) -> bool:
        """Whether the learner lacks an account or a token, according to the repair command, which
        counts such learners."""
        out = self.pair.manage_application(
            *self.pair.edition.repair_command, "--user", self.username, "--dry-run", "--json"
        )
        return bool(json.loads(out)["changed"])

    def _wait_for(self, find: Callable[[], Any], name: str) -> Any:
        """Waits until ``find`` returns an object, and returns this object. name: for the message.
        Raises DemoError."""
        deadline = time.monotonic() + WORKER_SECONDS
        while time.monotonic() < deadline:
            self.pair.check()
            if result := find():
                return result
            time.sleep(0.1)
        raise DemoError(
            f"The worker did not create {name} within {WORKER_SECONDS:.0f} seconds; "
            f"see {self.pair.home}/worker.log and {self.pair.home}/lms.log."
        )

    @staticmethod
    def _require(condition: bool, error: str) -> None:
        """Raises DemoError with the message ``error`` if the condition is False."""
        if not condition:
            raise DemoError(error)
