"""One running system for all faults; each test gets it as it was in the beginning."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.doctor.faults.system import System
from usher.cli.demo.pair import Pair
from usher.contract.editions import MITXONLINE

LEARNER = """
from django.contrib.auth import get_user_model
from usher.application.accounts.services import ensure_account
from usher.application.engine.services import reconcile
from usher.application.enrollments.services import enroll
from usher.application.runs.models import CourseRun
from usher.application.runs.services import sync_runs
sync_runs()
user = get_user_model().objects.create_user("ada", email="ada@learners.example", password=None)
type(user).objects.filter(pk=user.pk).update(name="Ada Lovelace")
user.refresh_from_db()
ensure_account(user)
enroll(user, CourseRun.objects.order_by("course_key").first())
"""
SETTLED = """
from usher.application.enrollments.models import Enrollment
from usher.application.tokens.models import LmsToken
print(int(all(row.is_settled for model in (Enrollment, LmsToken) for row in model.objects.all())))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process: the running system is shared."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("doctor-faults"))


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with Pair(tmp_path_factory.mktemp("pair"), MITXONLINE) as pair:
        system = System(pair)
        try:
            system.application.run(LEARNER)
            _wait_until_settled(system)
            system.remember()
            yield system
        finally:
            system.close()


@pytest.fixture
def served_otherwise(running: System) -> Iterator[System]:
    """For tests that serve a side with other settings: a restart more between them is spared."""
    yield running
    running.restore()


@pytest.fixture
def system(served_otherwise: System) -> System:
    served_otherwise.as_before()
    return served_otherwise


def _wait_until_settled(system: System) -> None:
    """The engine brings the learner's account, token and enrollment to the LMS."""
    deadline = monotonic() + 30
    while system.application.run(SETTLED).strip() != "1":
        system.pair.check()
        assert monotonic() < deadline, "the engine did not settle the learner"
        sleep(0.1)
