"""Seeds side by side: one process a core. (Tests may; evloop itself never does.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pool
from typing import TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def parallel(work: Callable[[Task], Answer], tasks: Iterable[Task], jobs: int) -> Iterator[Answer]:
    """`map`, in the order of `tasks`, over `jobs` processes."""
    if jobs <= 1:
        yield from map(work, tasks)
        return
    with Pool(jobs) as pool:
        yield from pool.imap(work, tasks)
