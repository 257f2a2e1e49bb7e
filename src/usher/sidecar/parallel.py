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
def in_parallel(
    work: Callable[[T], R], pages: Iterable[T], *, concurrency: int = 2
) -> Iterator[Iterator[R]]:
    """Yields an iterator over the results of ``work``, in the order of the pages. concurrency:
    pages in progress at a time; by default one is in the LMS while one is recorded. When the block
    ends, no other page is begun, and pages in progress are finished, so that their changes in the
    LMS are recorded."""
    with closing(_results(work, pages, concurrency)) as results:
        yield results


def _results(work: Callable[[T], R], pages: Iterable[T], concurrency: int) -> Generator[R]:
    """Yields the results. Closing the generator waits for the pages in progress."""
    in_progress: deque[Future[R]] = deque()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="page") as pool:
        for page in pages:
            if len(in_progress) == concurrency:
                oldest = in_progress.popleft()
                yield oldest.result()
            in_progress.append(pool.submit(work, page))
        while in_progress:
            yield in_progress.popleft().result()
