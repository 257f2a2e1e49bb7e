"""The figures of the subject ``lms_on_mariadb``."""

from benchmarks.measures.lms_on_mariadb import medians


def test_a_figure_that_no_round_has_is_none():
    rounds = [{"accounts_a_second": rate, "accounts_over_before": None} for rate in (30, 10, 20)]
    assert medians(rounds) == {"accounts_a_second": 20, "accounts_over_before": None}
