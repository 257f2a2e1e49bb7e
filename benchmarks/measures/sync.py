"""The time that both implementations need for one learner, one enrollment, or all course runs."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.measuring import Figure
from benchmarks.services import control
from benchmarks.setup import RUN_COUNT, Setup

#: Enrollments of each learner.
ENROLLMENTS_EACH = 10
#: Usher's syncs in one round. Their median counts, because other load on the machine affects single
#: times.
_SYNCS_A_ROUND = 3


def repair(setup: Setup, rounds: int, learners: int, reference_learners: int) -> list[Figure]:
    """Compares how fast Usher and the serial implementation create account and token of learners
    who have neither."""
    public = Figure(
        "repair_public", "Repair of learners, public APIs", "ms a learner", target_ratio=40
    )
    batch = Figure(
        "repair_batch", "Repair of learners, batch API", "ms a learner", target_ratio=150
    )
    for number in range(rounds):
        reference_arguments = {
            "username_pattern": f"r{number}x{{}}",
            "first": 0,
            "end": reference_learners,
        }
        setup.reference.call("create_learners", **reference_arguments)
        seconds = _seconds_of(
            setup.reference.call("repair", **reference_arguments), reference_learners
        )
        for figure, is_batch in ((public, False), (batch, True)):
            figure.reference.append(seconds * 1000)
            setup.use_batch_api(is_batch)
            pattern = f"o{number}{is_batch:d}x{{}}"
            setup.ours.call("create_learners", username_pattern=pattern, first=0, end=learners)
            our_seconds = _seconds_of(setup.ours.call("repair"), learners)
            figure.ours.append(our_seconds * 1000)
    return [public, batch]


def enrollments(setup: Setup, rounds: int, count: int, reference_count: int) -> list[Figure]:
    """Compares how fast learners are enrolled. In each round, Usher sends ``count`` enrollments
    with each API, and the serial implementation ``reference_count``."""
    public = Figure(
        "enroll_public", "Enrollments, public APIs", "ms an enrollment", target_ratio=50
    )
    batch = Figure("enroll_batch", "Enrollments, batch API", "ms an enrollment", target_ratio=150)
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(ENROLLMENTS_EACH)]
    setup.reference.call("create_runs", keys=keys)
    setup.ours.call("create_runs", keys=keys)
    for number in range(rounds):
        reference_arguments = {
            "username_pattern": f"e{number}x{{}}",
            "first": 0,
            "end": reference_count // ENROLLMENTS_EACH,
        }
        setup.reference.call("create_learners", **reference_arguments)
        control(setup.lms_url, "accounts", **reference_arguments)
        setup.reference.call(
            "create_enrollments", **reference_arguments, enrollments_each=ENROLLMENTS_EACH
        )
        seconds = _seconds_of(
            setup.reference.call("send_enrollments", limit=reference_count), reference_count
        )
        for figure, is_batch in ((public, False), (batch, True)):
            figure.reference.append(seconds * 1000)
            setup.use_batch_api(is_batch)
            learners = setup.create_learners(
                f"f{number}{is_batch:d}x{{}}", count=count // ENROLLMENTS_EACH
            )
            setup.ours.call("create_enrollments", **learners, enrollments_each=ENROLLMENTS_EACH)
            our_seconds = _seconds_of(setup.ours.call("send_enrollments"), count)
            figure.ours.append(our_seconds * 1000)
    return [public, batch]


def runs(setup: Setup, rounds: int) -> list[Figure]:
    """Compares how long a sync of ten thousand runs takes, of which one in a hundred changed since
    the last sync."""
    whole_sync = Figure(
        "runs_sync", "Course runs, 1% changed", f"s for {RUN_COUNT:,} runs", target_ratio=40
    )
    sync_over_fetch = Figure(
        "runs_sync_over_raw_fetch",
        "… over fetching the pages alone",
        "s",
        target_ratio=1.3,
        is_share=True,
    )
    setup.use_batch_api(is_used=False)
    setup.ours.call("sync_runs")
    setup.reference.call("sync_runs")

    def change_runs(mark: str) -> int:
        """Changes one in a hundred runs. Returns their number."""
        return int(control(setup.lms_url, "change-runs", one_in=100, mark=mark)["changed"])

    for number in range(rounds):
        changed = change_runs(mark=f"{number}")
        whole_sync.reference.append(setup.reference.call("sync_runs")["seconds"])
        for repetition in range(_SYNCS_A_ROUND):
            sync_over_fetch.reference.append(setup.ours.call("fetch_runs")["seconds"])
            cost = setup.ours.call("sync_runs")
            if cost["answer"]["changed"] != changed or cost["answer"]["failed"]:
                raise RuntimeError(f"a sync did not do its work: {cost['answer']}")
            sync_over_fetch.ours.append(cost["seconds"])
            # Changes for the next sync to find.
            changed = change_runs(mark=f"{number}{repetition}")
        syncs_of_round = sync_over_fetch.ours[-_SYNCS_A_ROUND:]
        whole_sync.ours.append(statistics.median(syncs_of_round))
    return [whole_sync, sync_over_fetch]


def _seconds_of(cost: dict[str, Any], count: int) -> float:
    """Seconds for one of ``count`` items. cost: the result of ``RemoteModule.call``, for a function
    that returns the number of items, or a summary. Raises RuntimeError if some were not sent."""
    answer = cost["answer"]
    if isinstance(answer, int):
        changed, failed = answer, 0
    else:
        changed, failed = answer["changed"], answer["failed"]
    if changed < count or failed:
        raise RuntimeError(f"only {changed} of {count}: {str(answer)[:500]}")
    return float(cost["seconds"]) / count
