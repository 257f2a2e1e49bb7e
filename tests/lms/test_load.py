"""The measurement of a real LMS, ``benchmarks.lms_load``, run against the embedded one."""

from __future__ import annotations

from argparse import Namespace

from benchmarks.lms_load import PAGE, Load, measure

from tests.lms.conftest import Lms


def test_it_measures_and_ends_what_it_began(lms: Lms) -> None:
    """Without a run of the caller's, the enrollments are spread over the LMS's own runs."""
    asked = Namespace(accounts=6, enrollments=9, run=None, mode="", deadlocks="")
    with lms.api() as client:
        found = measure(Load(client, batch=4, at_once=2, page=PAGE), asked)

    kinds = ("accounts", "accounts_again", "enrollments", "enrollments_again")
    assert [found[kind]["items"] for kind in kinds] == [6, 6, 9, 9]
    assert all(found[kind]["a_second"] > 0 for kind in kinds)
    assert (found["failed_requests"], found["page_failed"]) == (0, 0)
    assert found["refused"] == 0, found["why"]
    left = "from student_courseenrollment e join auth_user u on u.id = e.user_id"
    made = f"{left} where u.username like 'usher-load-%'"
    assert lms.value(f"select count(*) {made}") == 9
    assert lms.value(f"select count(distinct course_id) {made}") == 2
    assert lms.value(f"select count(*) {made} and (e.is_active or u.is_active)") == 0
