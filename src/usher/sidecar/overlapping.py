"""Processes several pages at a time: the LMS works on one while the application records another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def overlapped(
    work: Callable[[T], R], pages: Iterable[T], at_once: int = 2
) -> Iterator[Iterator[R]]:
    """Yields an iterator of what ``work`` returns for each page, in their order. On leaving, no
    other page is begun, and those in progress are finished, so that what was done in the LMS is
    recorded."""
    with closing(_results(work, pages, at_once)) as results:
        yield results


def _results(work: Callable[[T], R], pages: Iterable[T], at_once: int) -> Generator[R]:
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="page") as pool:
        for page in pages:
            if len(under_way) == at_once:
                yield under_way.popleft().result()
            under_way.append(pool.submit(work, page))
        while under_way:
            yield under_way.popleft().result()
