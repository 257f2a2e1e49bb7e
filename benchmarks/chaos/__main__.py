"""``make chaos``. The exit code is 0 only if in the end nothing is lost, duplicated or wrong in the
LMS."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.chaos.run import Plan, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--faults", type=float, default=0.3, help="share of the LMS's answers to spoil, 0 to 1"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(  # the default of ``Plan`` is 1: the pauses of production
        "--hurry",
        dest="pause_divisor",
        type=float,
        default=4,
        help="divide the pauses between attempts by this number",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=1800,
        help="seconds until every row must be in sync or refused",
    )
    arguments = parser.parse_args()
    verdict = run(Plan(**vars(arguments)), report=lambda line: print(line, flush=True))
    _print_verdict(verdict)
    has_findings = verdict["lost"] or verdict["duplicates"] or verdict["wrong"]
    sys.exit(1 if has_findings else 0)


def _print_verdict(verdict: dict[str, Any]) -> None:
    """Prints the first findings of each sort, then the counts as one line of JSON."""
    print()
    for title in ("lost", "duplicates", "wrong"):
        for sentence in verdict[title][:20]:
            print(f"{title}: {sentence}")
    for reason, count in sorted(verdict["refused"].items()):
        print(f"refused, {count}: {reason}")
    counts = {
        "operations": verdict["operations"],
        "lost": len(verdict["lost"]),
        "duplicates": len(verdict["duplicates"]),
        "wrong": len(verdict["wrong"]),
        "refused": sum(verdict["refused"].values()),
        "max_attempts": verdict["max_attempts"],
        "worker_kills": verdict["worker_kills"],
    }
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
