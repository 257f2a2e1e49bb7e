"""One running system for all faults. Each test gets it in its original state."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.doctor.faults.manage_process import ManageProcess
from tests.doctor.faults.system import System
from usher.cli.demo.pair import Pair
from usher.contract.editions import MITXONLINE

#: Creates the learner ``ada``, and requests an account and an enrollment. The worker sends them.
CREATE_LEARNER = """
from django.contrib.auth import get_user_model
from usher.application.accounts.services import ensure_account
from usher.engine.services import reconcile
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
#: Seconds in which even a busy machine has created the learner in the LMS.
MAX_SECONDS = 180
#: Prints 1 if every record is settled, none is due within ten minutes and none has a lease.
PRINT_IS_QUIET = """
from datetime import timedelta
from django.utils import timezone
from usher.application.accounts.models import LmsAccount
from usher.application.enrollments.models import Enrollment
from usher.application.tokens.models import LmsToken
soon = timezone.now() + timedelta(minutes=10)
print(int(all(
    row.is_settled and row.lease_until is None
    and (row.due_at is None or row.due_at > soon)
    for model in (LmsAccount, LmsToken, Enrollment) for row in model.objects.all()
)))
"""
#: Prints 1 if the LMS has delivered all its messages. A message that arrives later would make a row
#: due again.
PRINT_IS_DELIVERED = """
from usher.lms.events.models import Message
print(int(not Message.objects.filter(next_attempt_at__isnull=False).exists()))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs these tests in one process, because they share the running system."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("doctor-faults"))


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running application and LMS, which agree. The learner ``ada`` has an LMS account, a token
    and an enrollment."""
    # Each of the many runs of doctor requests a token with the LMS's credentials and a wrong code.
    high_limit = {"USHER_TOKEN_FAILURES_A_MINUTE": "100000"}
    folder = tmp_path_factory.mktemp("pair")
    with Pair(folder, MITXONLINE, extra_environment=high_limit) as pair:
        system = System(pair)
        try:
            system.application.run(CREATE_LEARNER)
            _wait_until_quiet(system)
            system.remember()
            system.restore_records()  # sets the worker's times, as after each later test
            yield system
        finally:
            system.close()


@pytest.fixture
def reconfigurable_system(running: System) -> Iterator[System]:
    """The system for tests that call ``serve_lms_with`` or ``serve_application_with``. It keeps the
    settings of the previous test, to save a restart; the fixture ``system`` restores them. The
    records are restored after each test."""
    yield running
    running.restore_records()


@pytest.fixture
def system(reconfigurable_system: System) -> System:
    """The system with its original settings and records."""
    reconfigurable_system.restore_settings()
    return reconfigurable_system


def _wait_until_quiet(system: System) -> None:
    """Waits until the worker has created the learner in the LMS and the LMS has sent its
    webhook."""
    deadline = monotonic() + MAX_SECONDS
    while not (
        _prints_1(system.lms, PRINT_IS_DELIVERED) and _prints_1(system.application, PRINT_IS_QUIET)
    ):
        system.pair.check()
        assert monotonic() < deadline, "the engine did not settle the learner"
        sleep(0.1)


def _prints_1(shell: ManageProcess, code: str) -> bool:
    return shell.run(code).strip() == "1"
