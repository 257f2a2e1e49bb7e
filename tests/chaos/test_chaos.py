"""A short ``make chaos``: real PostgreSQL, Redis, web server and Celery workers, each broken
once."""

import pytest
from benchmarks.chaos.run import Plan, run

pytestmark = pytest.mark.slow

#: Few operations and short pauses, so that the test ends within ``limit`` seconds.
SHORT = Plan(operations=160, workers=3, kills=3, pause_divisor=8, limit=500)

#: Generous limits: more attempts or requests would mean that failed work is repeated without pause.
MAX_ATTEMPTS_OF_A_ROW = 15
MAX_REQUESTS_PER_OPERATION = 20


def test_application_and_lms_reach_the_desired_state_despite_faults():
    verdict = run(SHORT)
    assert verdict["lost"] == []
    assert verdict["duplicates"] == []
    assert verdict["wrong"] == []
    assert verdict["operations"] == SHORT.operations
    assert verdict["worker_kills"] == SHORT.kills
    # The faults were real: at least half of the planned share of answers was spoiled.
    assert verdict["proxy"]["spoiled"] > verdict["proxy"]["requests"] * SHORT.faults / 2
    # Every permanent refusal says why, after its error code.
    assert all(": " in reason for reason in verdict["refused"])
    # Neither one row nor all rows together had too many attempts.
    assert verdict["max_attempts"] < MAX_ATTEMPTS_OF_A_ROW
    assert verdict["proxy"]["requests"] < SHORT.operations * MAX_REQUESTS_PER_OPERATION
