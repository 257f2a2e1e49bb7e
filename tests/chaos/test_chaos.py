"""A short ``make chaos``: real PostgreSQL, Redis, web server and Celery workers, each broken
once."""

import pytest
from benchmarks.chaos.run import Plan, run

pytestmark = pytest.mark.slow

SHORT = Plan(operations=160, workers=3, kills=3, hurry=8, limit=500)


def test_in_the_end_application_and_lms_have_the_desired_state():
    found = run(SHORT)
    assert found["lost"] == []
    assert found["duplicates"] == []
    assert found["wrong"] == []
    assert found["operations"] == SHORT.operations
    assert found["worker_kills"] == SHORT.kills
    # The faults were real, and every permanent refusal says why.
    assert found["proxy"]["spoiled"] > found["proxy"]["requests"] * 0.15
    assert all(": " in reason for reason in found["refused"])
    # Not too many attempts: neither for one row nor altogether.
    assert found["max_attempts"] < 15
    assert found["proxy"]["requests"] < SHORT.operations * 20
