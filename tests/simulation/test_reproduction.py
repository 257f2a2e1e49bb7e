"""A seed gives the same result, whatever ran before it in the process."""

from simulation.run import Simulator, simulate


def test_an_earlier_seed_does_not_change_the_events_of_a_seed():
    with Simulator():
        from usher.console.recording.services import recorder
        from usher.engine.outages import outages

        simulate(1)
        expected_events = simulate(67).event_log.text()
        # State that a seed leaves behind if it ends during an outage.
        outages._since["account"] = 1000.0
        recorder._counts["failed"] += 1
        assert simulate(67).event_log.text() == expected_events
