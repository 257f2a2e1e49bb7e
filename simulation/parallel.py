"""Runs many seeds in as many processes as there are cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from simulation.run import Simulator, simulate

#: Seed, error ('' if every invariant held), number of steps, number of requests.
SeedSummary = tuple[int, str, int, int]


def summarize(seed: int) -> SeedSummary:
    result = simulate(seed)
    error = result.error
    error_text = "" if error is None else f"{type(error).__name__}: {error}"
    return seed, error_text, result.steps, result.requests


def simulate_many(seeds: Sequence[int], processes: int | None = None) -> Iterator[SeedSummary]:
    """Yield the outcomes, in no particular order. Each seed runs in a forked process of its own, so
    that no seed can affect another one."""
    max_processes = processes or os.cpu_count() or 1
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    with Simulator():
        gc.collect()
        gc.freeze()  # so that the forked processes share the memory of the imported modules
        for seed in seeds:
            if len(running) == max_processes:
                yield from _results_of_ended(running)
            pipe, process = _start(seed)
            running[pipe] = seed, process
        while running:
            yield from _results_of_ended(running)


def _start(seed: int) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    receiving_end, sending_end = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(seed, sending_end), daemon=True)
    process.start()
    sending_end.close()
    return receiving_end, process


def _send_result(seed: int, pipe: Connection) -> None:
    pipe.send(summarize(seed))


def _results_of_ended(running: dict[Connection, tuple[int, BaseProcess]]) -> Iterator[SeedSummary]:
    """Outcomes of processes that have ended; waits for the first one."""
    for pipe in wait(list(running)):
        assert isinstance(pipe, Connection)
        seed, process = running.pop(pipe)
        try:
            outcome: SeedSummary = pipe.recv()
        except EOFError:
            process.join()
            outcome = seed, f"its process ended by itself: exit code {process.exitcode}", 0, 0
        process.join()
        pipe.close()
        yield outcome
