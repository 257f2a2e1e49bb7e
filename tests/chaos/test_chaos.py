"""A short ``make chaos``: real PostgreSQL, Redis, web server and Celery workers, each broken
once."""

import pytest
from benchmarks.chaos.run import Plan, run

pytestmark = pytest.mark.slow

SHORT = Plan(operations=160, workers=3, kills=3, pause_divisor=8, limit=500)


def test_application_and_lms_reach_the_desired_state_despite_faults():
    verdict = run(SHORT)
    assert verdict["lost"] == []
    assert verdict["duplicates"] == []
    assert verdict["wrong"] == []
    assert verdict["operations"] == SHORT.operations
    assert verdict["worker_kills"] == SHORT.kills
    # The faults were real, and every permanent refusal says why.
    assert verdict["proxy"]["spoiled"] > verdict["proxy"]["requests"] * 0.15
    assert all(": " in reason for reason in verdict["refused"])
    # Neither one row nor all rows together had too many attempts.
    assert verdict["max_attempts"] < 15
    assert verdict["proxy"]["requests"] < SHORT.operations * 20
