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
from tests.support.shapes import BASE_URL, Shape
from usher.cli.main import main
from usher.connect.application.checkout import ApplicationOptions, Checkout, recognise
from usher.sidecar import opening
from usher.sidecar.process import Agent

NAMES = ("mitxonline", "mitxpro")


@pytest.fixture(scope="module", params=NAMES)
def shape(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shape]:
    made = Shape(tmp_path_factory.mktemp("shape") / request.param, request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def checkout(shape: Shape) -> Checkout:
    return checkout_of(shape)


@pytest.fixture(scope="module")
def agent(checkout: Checkout) -> Iterator[Agent]:
    with Agent(checkout) as started:
        yield started


def checkout_of(shape: Shape) -> Checkout:
    return recognise(
        ApplicationOptions(str(shape.folder), manage=f"{Path(sys.executable)} manage.py")
    )


@pytest.fixture(scope="session")
def plugin_lms() -> Iterator[LmsProcess]:
    """An LMS with ``usher.lms``, whose batch API works without a running application."""
    with lms_process(with_plugin=True) as lms:
        lms.join_with_plugin("http://127.0.0.1:1")
        yield lms


@dataclass
class Sides:
    """A connected application and LMS, with helpers for tests."""

    shape: Shape
    lms: LmsProcess
    _agent: Agent | None = None
    _environment: str = ""

    def usher(self, *arguments: str) -> Result:
        given = ("--application", str(self.shape.folder), "--manage", self.shape.command)
        with patch.object(opening, "Agent", self._kept):
            return CliRunner().invoke(main, [arguments[0], *given, *arguments[1:]])

    @contextmanager
    def _kept(self, checkout: Checkout) -> Iterator[Agent]:
        """One agent for many commands, as for many passes of ``--watch``, because starting one
        takes longer than most commands. It has the application's settings of its start."""
        environment = self.shape.env_file.read_text()
        if self._agent is None or environment != self._environment:
            self.close()
            self._agent, self._environment = Agent(checkout), environment
        yield self._agent

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def json(self, *arguments: str) -> Any:
        done = self.usher(*arguments, "--json")
        assert done.stdout, (done.exit_code, done.output, done.exception)
        return json.loads(done.stdout)

    def people(self, *names: str, **user: Any) -> None:
        """Creates users who are old enough for the application's repair."""
        self.shape.run(_PEOPLE.format(names=names, user=user))

    def enroll(self, name: str, course: str, **row: Any) -> None:
        self.shape.run(_ENROLL.format(name=name, course=course, row=row))

    def rows(self, model: str, *fields: str, **condition: Any) -> list[Any]:
        app, name = model.split(".")
        found = self.shape.run(
            f"from {app}.models import {name}\n"
            f"result = list({name}._base_manager.filter(**{condition!r}).order_by('pk')"
            f".values_list(*{fields!r}))"
        )
        return [tuple(row) for row in found]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        from tests.support.lms_process import SERVICE_TOKEN

        headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
        answer = httpx.request(method, self.lms.url + path, json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def accounts_in_lms(self, *names: str, **more: Any) -> None:
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
        assert not [found for found in results if found["error"]], results

    def enrolled_in_lms(self, name: str, course: str, mode: str, active: bool = True) -> None:
        item = {
            "id": 1,
            "username": name,
            "course_id": course,
            "mode": mode,
            "is_active": active,
            "force": True,
        }
        (found,) = self.api("POST", "/usher/api/v1/enrollments/", {"items": [item]})["results"]
        assert not found["error"], found

    def enrollments_in_lms(self, name: str) -> set[tuple[str, str, bool]]:
        found = self.api("GET", f"/api/enrollment/v1/enrollments/?username={name}")["results"]
        return {(row["course_id"], row["mode"], row["is_active"]) for row in found}


_PEOPLE = """
from datetime import timedelta
from django.utils import timezone
from users.models import LegalAddress, User
old = timezone.now() - timedelta(days=2)
for name in {names!r}:
    more = dict(name="Name " + name, is_active=True)
    if hasattr(User, "global_id"):
        more["global_id"] = "id-of-" + name
    user = User.objects.create_user(name, name + "@example.org", **dict(more, **{user!r}))
    LegalAddress.objects.filter(user=user).update(country="US")
User.objects.filter(username__in={names!r}).update(created_on=old, last_login=old)
result = None
"""
_ENROLL = """
from datetime import timedelta
from django.utils import timezone
from users.models import User
from courses.models import Course, CourseRun, CourseRunEnrollment
course, _ = Course.objects.get_or_create(readable_id={course!r}, title="A course")
run = CourseRun.objects.filter(courseware_id={course!r}).first() or CourseRun.objects.create(
    course=course, courseware_id={course!r}, title="A run", run_tag="R1", live=True)
row = CourseRunEnrollment(user=User.objects.get(username="{name}"), run=run, **{row!r})
row.save()
CourseRunEnrollment._base_manager.filter(pk=row.pk).update(
    created_on=timezone.now() - timedelta(days=2))
result = row.pk
"""


@pytest.fixture(scope="module")
def sides(shape: Shape, plugin_lms: LmsProcess) -> Iterator[Sides]:
    values = plugin_lms.settings("http://127.0.0.1:1")
    values[BASE_URL[shape.name]] = values.pop("SITE_BASE_URL")
    shape.set(**{name: str(value) for name, value in values.items()})
    both = Sides(shape, plugin_lms)
    yield both
    both.close()


@pytest.fixture(scope="module")
def stock_lms() -> Iterator[tuple[LmsProcess, int]]:
    """A stock LMS, connected by hand to the application on that port."""
    port = free_port()
    with lms_process() as lms:
        lms.join(f"http://127.0.0.1:{port}")
        yield lms, port


@pytest.fixture(scope="module")
def plain(shape: Shape, stock_lms: tuple[LmsProcess, int]) -> Iterator[Sides]:
    lms, port = stock_lms
    values = lms.settings(f"http://127.0.0.1:{port}")
    values[BASE_URL[shape.name]] = values.pop("SITE_BASE_URL")
    shape.set(**{name: str(value) for name, value in values.items()})
    shape.run(_RECORD.format(id=LMS_CLIENT_ID, secret=LMS_CLIENT_SECRET, uri=lms.redirect_uri))
    with shape.served(port):
        sides = Sides(shape, lms)
        yield sides
        sides.close()


_RECORD = """
from oauth2_provider.models import Application
Application.objects.create(name="edx-oauth-app", client_id="{id}", client_secret="{secret}",
    client_type="confidential", authorization_grant_type="authorization-code",
    skip_authorization=True, redirect_uris="{uri}")
result = None
"""
