"""Worker processes that each run a snippet of the pair "workers"."""

from __future__ import annotations

from workers_of_host import started

from migration.pairs import PAGES, pairs_of

__all__ = ["passed"]

N = 3


def passed(library: str, side: int, then: str = "") -> int:
    """
    Return how many of sixty calls pass in all, made in turns by three processes.

    Args:
        library: The page.

        side: 0: the library's snippet; 1: ours.

        then: Code that defines `allowed()`, if the snippet does not.
    """
    code = pairs_of(PAGES / f"{library}.md")["workers"][side]
    with started(N, f"{code}\n{then}") as workers:
        return sum(worker.ask("bool(allowed())") for _ in range(20) for worker in workers)
