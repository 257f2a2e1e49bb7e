"""Stand-ins for MITx Online and MIT xPro, each connected to an embedded LMS."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from tests.support.checkout import free_port
from tests.support.lms_process import (
    LMS_CLIENT_ID,
    LMS_CLIENT_SECRET,
    LmsProcess,
    lms_process,
)
from tests.support.stand_ins import BASE_URL, StandIn
from usher.cli.main import main
from usher.connect.application.checkout import ApplicationOptions, Checkout, recognise
from usher.sidecar import session
from usher.sidecar.process import Agent

EDITIONS = ("mitxonline", "mitxpro")
#: An address at which nothing listens.
NO_SERVER = "http://127.0.0.1:1"


@pytest.fixture(scope="module", params=EDITIONS)
def application(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandIn]:
    """A checkout of the stand-in for each application, with an empty database."""
    stand_in = StandIn(tmp_path_factory.mktemp("application") / request.param, request.param)
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def checkout(application: StandIn) -> Checkout:
    return checkout_of(application)


@pytest.fixture(scope="module")
def agent(checkout: Checkout) -> Iterator[Agent]:
    """An agent that runs in the application."""
    with Agent(checkout) as started:
        yield started


def checkout_of(application: StandIn) -> Checkout:
    """What the sidecar recognises in the stand-in's folder."""
    return recognise(
        ApplicationOptions(str(application.folder), manage=f"{Path(sys.executable)} manage.py")
    )


@pytest.fixture(scope="session")
def plugin_lms() -> Iterator[LmsProcess]:
    """An LMS with ``usher.lms``. No server runs at the application's address, because the batch API
    does not need one."""
    with lms_process(with_plugin=True) as lms:
        lms.connect_with_plugin(NO_SERVER)
        yield lms


@dataclass
class System:
    """A connected application and its LMS, with helpers for tests. All tests of a module share the
    system, so tests whose rows stay due deactivate them at the end."""

    application: StandIn
    lms: LmsProcess
    _agent: Agent | None = None
    _env_of_agent: str = ""

    def usher(self, *arguments: str) -> Result:
        """Runs ``usher`` with this command and options for the application, in this process."""
        options = (
            "--application",
            str(self.application.folder),
            "--manage",
            self.application.manage_command,
        )
        with patch.object(session, "Agent", self._shared_agent):
            return CliRunner().invoke(main, [arguments[0], *options, *arguments[1:]])

    @contextmanager
    def _shared_agent(self, checkout: Checkout) -> Iterator[Agent]:
        """Yields the same agent to all commands, because starting an agent takes longer than most
        commands. If the ``.env`` has changed, a new agent is started."""
        env = self.application.env_file.read_text()
        if self._agent is None or env != self._env_of_agent:
            self.close()
            self._agent, self._env_of_agent = Agent(checkout), env
        yield self._agent

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def json(self, *arguments: str) -> Any:
        """Runs ``usher`` with ``--json`` and the options for the application. Returns the printed
        object, with any exit code."""
        result = self.usher(*arguments, "--json")
        assert result.stdout, (result.exit_code, result.output, result.exception)
        return json.loads(result.stdout)

    def create_users(self, *names: str, **fields: Any) -> None:
        """Creates users in the application. Their dates are two days ago, because reconcile leaves
        new users to the application. fields: further fields of each user."""
        self.application.run(_CREATE_USERS.format(names=names, fields=fields))

    def create_enrollment(self, name: str, course: str, **row: Any) -> None:
        """Creates an enrollment in the application, dated two days ago. row: further fields."""
        self.application.run(_CREATE_ENROLLMENT.format(name=name, course=course, row=row))

    def deactivate_users(self, *names: str) -> None:
        """Deactivates users in the application, so that later tests don't find their rows due."""
        self.application.run(
            "from users.models import User\n"
            f"User.objects.filter(username__in={names!r}).update(is_active=False)\nresult = None"
        )

    def deactivate_enrollments(self, name: str) -> None:
        """Deactivates a learner's enrollments in the application, so that later tests don't find
        them due."""
        self.application.run(
            "from courses.models import CourseRunEnrollment\n"
            f"CourseRunEnrollment.objects.filter(user__username={name!r}).update(active=False)\n"
            "result = None"
        )

    def rows(self, model: str, *fields: str, **condition: Any) -> list[Any]:
        """Tuples of these fields of the application's rows, by primary key; also of rows that the
        model's managers hide. model: ``app.Model``. condition: as for ``filter()``."""
        app, name = model.split(".")
        rows_as_json = self.application.run(
            f"from {app}.models import {name}\n"
            f"result = list({name}._base_manager.filter(**{condition!r}).order_by('pk')"
            f".values_list(*{fields!r}))"
        )
        return [tuple(row) for row in rows_as_json]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request to the LMS as the service worker and returns the answer's JSON. Raises
        httpx.HTTPStatusError."""
        import httpx

        from tests.support.lms_process import SERVICE_TOKEN

        headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
        answer = httpx.request(method, self.lms.url + path, json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def create_accounts_in_lms(self, *names: str, **more: Any) -> None:
        """Creates linked accounts in the LMS. more: fields of each account."""
        items = [
            {
                "id": name,
                "username": name,
                "email": f"{name}@example.org",
                "name": f"Name {name}",
                **more,
            }
            for name in names
        ]
        results = self.api("POST", "/usher/api/v1/accounts/", {"items": items})["results"]
        assert not [result for result in results if result["error"]], results

    def set_enrollment_in_lms(
        self, name: str, course: str, mode: str, *, active: bool = True
    ) -> None:
        """Enrolls a learner in the LMS, or unenrolls if not ``active``."""
        item = {
            "id": 1,
            "username": name,
            "course_id": course,
            "mode": mode,
            "is_active": active,
            "force": True,
        }
        (result,) = self.api("POST", "/usher/api/v1/enrollments/", {"items": [item]})["results"]
        assert not result["error"], result

    def enrollments_in_lms(self, name: str) -> set[tuple[str, str, bool]]:
        """The learner's enrollments in the LMS: {(course key, mode, whether it is active)}."""
        rows = self.api("GET", f"/api/enrollment/v1/enrollments/?username={name}")["results"]
        return {(row["course_id"], row["mode"], row["is_active"]) for row in rows}


#: ``global_id`` is a field of MITx Online.
_CREATE_USERS = """
from datetime import timedelta
from django.utils import timezone
from users.models import LegalAddress, User
old = timezone.now() - timedelta(days=2)
for name in {names!r}:
    more = dict(name="Name " + name, is_active=True)
    if hasattr(User, "global_id"):
        more["global_id"] = "id-of-" + name
    user = User.objects.create_user(name, name + "@example.org", **dict(more, **{fields!r}))
    LegalAddress.objects.filter(user=user).update(country="US")
User.objects.filter(username__in={names!r}).update(created_on=old, last_login=old)
result = None
"""
_CREATE_ENROLLMENT = """
from datetime import timedelta
from django.utils import timezone
from users.models import User
from courses.models import Course, CourseRun, CourseRunEnrollment
course, _ = Course.objects.get_or_create(readable_id={course!r}, title="A course")
# Without clean(): MIT xPro accepts no new run without a date in the future.
run = CourseRun.objects.filter(courseware_id={course!r}).first() or CourseRun.objects.bulk_create([
    CourseRun(course=course, courseware_id={course!r}, title="A run", run_tag="R1", live=True)])[0]
row = CourseRunEnrollment(user=User.objects.get(username="{name}"), run=run, **{row!r})
row.save()
CourseRunEnrollment._base_manager.filter(pk=row.pk).update(
    created_on=timezone.now() - timedelta(days=2))
result = row.pk
"""


@pytest.fixture(scope="module")
def system(application: StandIn, plugin_lms: LmsProcess) -> Iterator[System]:
    """The application, with settings that connect it to the LMS with ``usher.lms``."""
    values = plugin_lms.application_settings(NO_SERVER)
    values[BASE_URL[application.name]] = values.pop("SITE_BASE_URL")
    application.change_settings(**{name: str(value) for name, value in values.items()})
    system = System(application, plugin_lms)
    yield system
    system.close()


@pytest.fixture(scope="module")
def lms_without_plugin() -> Iterator[tuple[LmsProcess, int]]:
    """An LMS without ``usher.lms``, connected by hand to an application on the yielded port."""
    port = free_port()
    with lms_process() as lms:
        lms.connect_without_plugin(f"http://127.0.0.1:{port}")
        yield lms, port


@pytest.fixture(scope="module")
def public_api_system(
    application: StandIn, lms_without_plugin: tuple[LmsProcess, int]
) -> Iterator[System]:
    """The application and an LMS without ``usher.lms``, connected with each other. The
    application's server runs, because the LMS sends it requests."""
    lms, port = lms_without_plugin
    values = lms.application_settings(f"http://127.0.0.1:{port}")
    values[BASE_URL[application.name]] = values.pop("SITE_BASE_URL")
    application.change_settings(**{name: str(value) for name, value in values.items()})
    application.run(
        _REGISTER_OAUTH_CLIENT.format(
            id=LMS_CLIENT_ID, secret=LMS_CLIENT_SECRET, uri=lms.redirect_uri
        )
    )
    with application.running_server(port):
        system = System(application, lms)
        yield system
        system.close()


_REGISTER_OAUTH_CLIENT = """
from oauth2_provider.models import Application
Application.objects.create(name="edx-oauth-app", client_id="{id}", client_secret="{secret}",
    client_type="confidential", authorization_grant_type="authorization-code",
    skip_authorization=True, redirect_uris="{uri}")
result = None
"""


def without_invalid_rows(report: dict[str, Any]) -> dict[str, Any]:
    """The report without invalid rows, since MIT xPro refuses changes of runs that have started."""
    kinds = {
        kind: counts
        for kind, counts in report["kinds"].items()
        if any(number for result, number in counts.items() if result != "invalid")
    }
    reasons = [reason for reason in report["reasons"] if reason["result"] != "invalid"]
    return report | {"kinds": kinds, "reasons": reasons}


def name_for(system: System, word: str) -> str:
    """A username that the other application's tests in the same LMS don't use."""
    return f"{system.application.name[:5]}{word}"
