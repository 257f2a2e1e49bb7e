"""An LMS without ``usher.lms``: enrollments by the public API; accounts are refused before harm."""

from collections.abc import Iterator

import pytest

from tests.sidecar.conftest import Sides
from tests.sidecar.test_drift import course_of, mode_of, recorded
from tests.support.lms_process import LmsProcess, lms_process
from tests.support.shapes import BASE_URL, Shape


@pytest.fixture(scope="session")
def plain_lms() -> Iterator[LmsProcess]:
    with lms_process() as lms:
        lms.join("http://127.0.0.1:1")
        yield lms


@pytest.fixture(scope="module")
def plain(shape: Shape, plain_lms: LmsProcess) -> Sides:
    values = plain_lms.settings("http://127.0.0.1:1")
    values[BASE_URL[shape.name]] = values.pop("SITE_BASE_URL")
    shape.set(**{name: str(value) for name, value in values.items()})
    return Sides(shape, plain_lms)


def test_enrollments_are_made_by_the_public_api(plain: Sides) -> None:
    name, course, mode = f"{plain.shape.name[:5]}public", course_of(plain), mode_of(plain)
    plain.people(name)
    plain.lms.shell(
        "from django.contrib.auth import get_user_model\n"
        "from usher.embedded.student.models import UserProfile\n"
        f"user = get_user_model().objects.create_user({name!r}, '{name}@example.org')\n"
        "UserProfile.objects.create(user=user, name='A learner')"
    )
    recorded(plain, name)
    more = {"enrollment_mode": mode} if plain.shape.name == "mitxonline" else {}
    plain.enroll(name, course, **more)
    plain.enroll(name, "course-v1:no+such+run")

    done = plain.json("reconcile", "--kind", "enrollment")

    assert done["kinds"]["enrollment"]["done"] == 1, done
    assert done["kinds"]["enrollment"]["refused"] == 1
    assert plain.enrollments_in_lms(name) == {(course, mode, True)}
    enrolled = plain.rows(
        "courses.CourseRunEnrollment", "run__courseware_id", edx_enrolled=True, user__username=name
    )
    assert enrolled == [(course,)]


def test_accounts_without_a_batch_api_are_refused_with_what_to_do(plain: Sides) -> None:
    name = f"{plain.shape.name[:5]}nobatch"
    plain.people(name)
    done = plain.usher("reconcile")
    assert done.exit_code == 2
    assert "1 learners lack an account or a token" in done.output
    assert "install usher.lms" in done.output
