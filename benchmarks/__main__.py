"""``make bench``: measures, prints a table, draws it and writes ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import results
from benchmarks.mariadb import missing_requirement
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
from benchmarks.services import running_services
from benchmarks.setup import Setup, set_up

#: What is measured, in this order.
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
    """How many items each subject has in one round.

    learners, enrollments: items of the subjects repair and enrollments. reference: items of the
    serial implementation, whose rate does not depend on their number. exchanges: token exchanges.
    celery: enrollments for each number of workers. memory: checked learners. on_mariadb: accounts
    and enrollments. console_refused: refused enrollments of the subject console. backlog: rows that
    are due while ``people`` learners wait. flat: the larger of the two numbers of learners.
    """

    rounds: int
    learners: int
    enrollments: int
    reference: int
    exchanges: int
    celery: int
    memory: int
    on_mariadb: int
    console_learners: int
    console_refused: int
    sidecar: SidecarSizes
    backlog: int
    people: int
    flat: int


#: The smaller of the two numbers of learners of the subject ``flat``.
FEW = 10_000
FULL = Sizes(
    rounds=3,
    learners=1000,
    enrollments=10_000,
    reference=40,
    exchanges=1000,
    celery=4800,
    memory=1_000_000,
    on_mariadb=1000,
    console_learners=2_000_000,
    console_refused=100_000,
    sidecar=SidecarSizes(learners=1000, reference=20, embedded=200, not_due=1_000_000),
    backlog=100_000,
    people=100,
    flat=1_000_000,
)
QUICK = Sizes(
    rounds=1,
    learners=300,
    enrollments=3000,
    reference=20,
    exchanges=300,
    celery=3200,
    memory=100_000,
    on_mariadb=200,
    console_learners=50_000,
    console_refused=5_000,
    sidecar=SidecarSizes(learners=200, reference=8, embedded=60, not_due=100_000),
    backlog=20_000,
    people=40,
    flat=200_000,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="measure one small round of each subject"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each subject (default: 3)")
    parser.add_argument(
        "--learners",
        type=int,
        help="learners of the subjects flat and console (default: 1,000,000 and 2,000,000)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=SUBJECTS, default=SUBJECTS, help="measure these subjects only"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "benchmarks" / "results.json",
        help="JSON file in which the results replace earlier ones",
    )
    parser.add_argument(
        "--drawing",
        type=Path,
        default=ROOT / "docs/images/benchmarks.svg",
        help="file of the picture; the picture of waits is written next to it",
    )
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    if arguments.learners:
        sizes = replace(sizes, flat=arguments.learners, console_learners=arguments.learners)
    all_results = results.Results(machine(), is_quick=arguments.quick)
    with running_services() as services, set_up(services) as setup:
        for subject in SUBJECTS:
            if subject in arguments.only:
                print(f"measuring {subject} ...", flush=True)
                measure(subject, setup, sizes, arguments.rounds or sizes.rounds, all_results)
                all_results.write(arguments.results)  # now, in case a later subject fails
    print(all_results.table())
    all_results.draw(arguments.drawing)
    print(f"\nwrote {arguments.results} and {arguments.drawing}")


def measure(
    subject: str, setup: Setup, sizes: Sizes, rounds: int, all_results: results.Results
) -> None:
    """Measures one subject, and adds what was measured to ``all_results``."""
    match subject:
        # Subjects with figures of Usher and of the reference.
        case "repair":
            figures = sync.repair(
                setup, rounds, learners=sizes.learners, reference_learners=sizes.reference
            )
            all_results.add(*figures)
        case "enrollments":
            figures = sync.enrollments(
                setup, rounds, count=sizes.enrollments, reference_count=3 * sizes.reference
            )
            all_results.add(*figures)
        case "runs":
            all_results.add(*sync.runs(setup, rounds))
        case "provider":
            figures = provider(
                setup, rounds, our_count=sizes.exchanges, reference_count=sizes.reference
            )
            all_results.add(*figures)
        case "celery":
            all_results.add(*celery(setup, rounds, sizes.celery))
        case "redis":
            all_results.stalled = redis_stalled(setup, rounds, sizes.enrollments)
            all_results.add(all_results.stalled)
        case "sidecar":
            figures, all_results.sidecar = sidecar(setup.services, rounds, sizes.sidecar)
            all_results.add(*figures)
        # Subjects with results of their own.
        case "console":
            all_results.console = console(
                setup, learners=sizes.console_learners, refused=sizes.console_refused
            )
            all_results.console_learners = sizes.console_learners
        case "interactive":
            all_results.waits = interactive(setup, backlog=sizes.backlog, people=sizes.people)
            all_results.backlog = sizes.backlog
        case "statements":
            setup.use_batch_api(is_used=False)
            setup.ours.call("create_runs", keys=["course-v1:BenchX+C00000+2026_T1"])
            all_results.statements = setup.ours.call("count_statements")["answer"]
        case "flat":
            all_results.operation_times = flat(setup, few=FEW, many=sizes.flat, rounds=rounds)
        case "lms_on_mariadb":
            reason = missing_requirement()
            if reason:
                print(f"left out: {reason}")
            else:
                all_results.on_mariadb = lms_on_mariadb(rounds, sizes.on_mariadb)
        case "memory":
            all_results.checked = sizes.memory
            all_results.rss_mb, all_results.check_seconds = memory(setup, sizes.memory)


def machine() -> str:
    """A short description of this machine."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), {gigabytes:.0f} GB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
