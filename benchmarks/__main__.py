"""``make bench``: measures, prints a table, draws it and writes ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import results
from benchmarks.mariadb import missing
from benchmarks.measures import sync
from benchmarks.measures.celery import celery
from benchmarks.measures.console import console
from benchmarks.measures.flat import flat
from benchmarks.measures.interactive import interactive
from benchmarks.measures.lms_on_mariadb import lms_on_mariadb
from benchmarks.measures.memory import memory
from benchmarks.measures.provider import provider
from benchmarks.measures.redis import redis_stalled
from benchmarks.measures.sidecar import Sizes as SidecarSizes
from benchmarks.measures.sidecar import sidecar
from benchmarks.processes import ROOT
from benchmarks.services import surroundings
from benchmarks.stage import Stage, stage

SUBJECTS = (
    "provider",
    "repair",
    "enrollments",
    "runs",
    "celery",
    "redis",
    "interactive",
    "statements",
    "flat",
    "memory",
    "sidecar",
    "lms_on_mariadb",
    "console",
)


@dataclass(frozen=True)
class Sizes:
    """Numbers of items in one round. The rates of the serial implementation need fewer items."""

    rounds: int
    learners: int
    enrollments: int
    reference: int
    exchanges: int
    celery: int
    memory: int
    on_mariadb: int
    console: tuple[int, int]
    sidecar: SidecarSizes
    backlog: int
    people: int
    flat: int


#: The small number of learners, compared with a very large one.
FEW = 10_000
WHOLE = Sizes(
    3,
    1000,
    10_000,
    40,
    1000,
    4800,
    1_000_000,
    1000,
    (2_000_000, 100_000),
    SidecarSizes(1000, 20, 200, 1_000_000),
    100_000,
    100,
    1_000_000,
)
QUICK = Sizes(
    1,
    300,
    3000,
    20,
    300,
    3200,
    100_000,
    200,
    (50_000, 5_000),
    SidecarSizes(200, 8, 60, 100_000),
    20_000,
    40,
    200_000,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round of each")
    parser.add_argument("--rounds", type=int, help="rounds of each (default: 3)")
    parser.add_argument(
        "--learners",
        type=int,
        help="of the subjects flat and console (default: 1,000,000 and 2,000,000)",
    )
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results.json")
    parser.add_argument("--drawing", type=Path, default=ROOT / "docs/images/benchmarks.svg")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else WHOLE
    if asked.learners:
        sizes = replace(sizes, flat=asked.learners, console=(asked.learners, sizes.console[1]))
    found = results.Results(machine(), is_quick=asked.quick)
    with surroundings() as around, stage(around) as both:
        for subject in SUBJECTS:
            if subject in asked.only:
                print(f"measuring {subject} ...", flush=True)
                measure(subject, both, sizes, asked.rounds or sizes.rounds, found)
                found.write(asked.results)  # so that it is kept if a later one fails
    print(found.table())
    found.draw(asked.drawing)
    print(f"\nwrote {asked.results} and {asked.drawing}")


def measure(subject: str, both: Stage, sizes: Sizes, rounds: int, found: results.Results) -> None:
    if subject == "repair":
        found.add(*sync.repair(both, rounds, sizes.learners, sizes.reference))
    elif subject == "enrollments":
        found.add(*sync.enrollments(both, rounds, sizes.enrollments, 3 * sizes.reference))
    elif subject == "runs":
        found.add(*sync.runs(both, rounds))
    elif subject == "provider":
        found.add(*provider(both, rounds, sizes.exchanges, sizes.reference))
    elif subject == "celery":
        found.add(*celery(both, rounds, sizes.celery))
    elif subject == "console":
        found.console = console(both, *sizes.console)
        found.console_learners = sizes.console[0]
    elif subject == "sidecar":
        figures, found.sidecar = sidecar(both.surroundings, rounds, sizes.sidecar)
        found.add(*figures)
    elif subject == "redis":
        found.stalled = redis_stalled(both, rounds, sizes.enrollments)
        found.add(found.stalled)
    elif subject == "interactive":
        found.waits = interactive(both, sizes.backlog, sizes.people)
        found.backlog = sizes.backlog
    elif subject == "statements":
        both.use_batch_api(False)
        both.ours.call("runs", keys=["course-v1:BenchX+C00000+2026_T1"])
        found.statements = both.ours.call("statements")["answer"]
    elif subject == "flat":
        found.flat = flat(both, FEW, sizes.flat, rounds)
    elif subject == "lms_on_mariadb":
        if why := missing():
            print(f"left out: {why}")
        else:
            found.on_mariadb = lms_on_mariadb(rounds, sizes.on_mariadb)
    else:
        found.rss_mb, took = memory(both, sizes.memory)
        found.swept, found.sweep_seconds = sizes.memory, took["seconds"]


def machine() -> str:
    """A short description of this machine."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), {gigabytes:.0f} GB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
