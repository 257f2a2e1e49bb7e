"""Learners, enrollments and runs: the time of both implementations for one item."""

from __future__ import annotations

from typing import Any

from benchmarks.measuring import Figure
from benchmarks.services import control
from benchmarks.stage import RUNS, Stage

#: Enrollments of each learner.
EACH = 10


def repair(stage: Stage, rounds: int, learners: int, reference_learners: int) -> list[Figure]:
    """Account and token for learners who have neither."""
    public = Figure("repair_public", "Repair of learners, public APIs", "ms a learner", 40)
    batch = Figure("repair_batch", "Repair of learners, batch API", "ms a learner", 150)
    for number in range(rounds):
        reference_arguments = {"names": f"r{number}x{{}}", "first": 0, "end": reference_learners}
        stage.reference.call("learners", **reference_arguments)
        seconds = _seconds_of(
            stage.reference.call("repair", **reference_arguments), reference_learners
        )
        for figure, on in ((public, False), (batch, True)):
            figure.reference.append(seconds * 1000)
            stage.use_batch_api(on)
            stage.ours.call("learners", names=f"o{number}{on:d}x{{}}", first=0, end=learners)
            figure.ours.append(_seconds_of(stage.ours.call("repair"), learners) * 1000)
    return [public, batch]


def enrollments(stage: Stage, rounds: int, count: int, reference_count: int) -> list[Figure]:
    public = Figure("enroll_public", "Enrollments, public APIs", "ms an enrollment", 50)
    batch = Figure("enroll_batch", "Enrollments, batch API", "ms an enrollment", 150)
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(EACH)]
    stage.reference.call("runs", keys=keys)
    stage.ours.call("runs", keys=keys)
    for number in range(rounds):
        reference_arguments = {
            "names": f"e{number}x{{}}",
            "first": 0,
            "end": reference_count // EACH,
        }
        stage.reference.call("learners", **reference_arguments)
        control(
            stage.lms_url,
            "accounts",
            **reference_arguments | {"name": reference_arguments["names"]},
        )
        stage.reference.call("enrollments", **reference_arguments, each=EACH)
        seconds = _seconds_of(
            stage.reference.call("enroll", limit=reference_count), reference_count
        )
        for figure, on in ((public, False), (batch, True)):
            figure.reference.append(seconds * 1000)
            stage.use_batch_api(on)
            own = {"names": f"f{number}{on:d}x{{}}", "first": 0, "end": count // EACH}
            stage.ours.call("learners", **own)
            stage.ours.call("accounts", **own)
            control(stage.lms_url, "accounts", **own | {"name": own["names"]})
            stage.ours.call("enrollments", **own, each=EACH)
            figure.ours.append(_seconds_of(stage.ours.call("enroll"), count) * 1000)
    return [public, batch]


def runs(stage: Stage, rounds: int) -> list[Figure]:
    """Ten thousand runs, of which one in a hundred changed since the last sync."""
    whole = Figure("runs_sync", "Course runs, 1% changed", f"s for {RUNS:,} runs", 40)
    raw = Figure(
        "runs_sync_over_raw_fetch", "… over fetching the pages alone", "s", 1.3, is_share=True
    )
    stage.use_batch_api(False)
    stage.ours.call("sync_runs")
    stage.reference.call("sync_runs")
    for number in range(rounds):
        changed = control(stage.lms_url, "change-runs", each=100, mark=number)["changed"]
        whole.reference.append(stage.reference.call("sync_runs")["seconds"])
        for _ in range(3):  # the shortest time, which other load on the machine lengthens least
            raw.reference.append(stage.ours.call("raw_fetch")["seconds"])
            cost = stage.ours.call("sync_runs")
            if cost["answer"]["changed"] != changed or cost["answer"]["failed"]:
                raise RuntimeError(f"a sync did not do its work: {cost['answer']}")
            raw.ours.append(cost["seconds"])
            changed = control(stage.lms_url, "change-runs", each=100, mark=f"{number}{_}")[
                "changed"
            ]
        whole.ours.append(sorted(raw.ours[-3:])[1])
    return [whole, raw]


def _seconds_of(answer_of_call: dict[str, Any], count: int) -> float:
    """Seconds for one of ``count``. Raises RuntimeError if some were not sent."""
    answer = answer_of_call["answer"]
    changed = answer if isinstance(answer, int) else answer["changed"]
    if changed < count or (isinstance(answer, dict) and answer["failed"]):
        raise RuntimeError(f"only {changed} of {count}: {str(answer)[:500]}")
    return float(answer_of_call["seconds"]) / count
