"""The script of Valkey and Redis beside the Python rules: many sequences in one pipeline, and in several processes."""

from __future__ import annotations

import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import valkey
from asks_of_fleet import KINDS, Sequence
from servers.valkey import Valkey

from resilio.sharing import Ask, exchange, keeps_us
from resilio.sharing._fleet.rules import rows as rows_of
from resilio.sharing._fleet.script import SCRIPT, SHA

__all__ = ["compare", "compare_in_processes", "numbers_of", "text_of"]

BATCH = 200
"""Sequences in a pipeline: some 4,000 commands."""


def compare(client: Any, kind: str, seeds: range) -> int:
    """Compare each answer and each row that the sequences leave behind; return the number of asks."""
    asks = 0
    for first in seeds[::BATCH]:
        some = range(first, min(first + BATCH, seeds.stop))
        asks += _compare(client, kind, some)
    return asks


def compare_in_processes(kind: str, seeds: range) -> int:
    """Compare in a process for each processor, each with a server of its own: a server has one thread for scripts."""
    n = os.cpu_count() or 1
    parts = [range(seeds.start + len(seeds) * i // n, seeds.start + len(seeds) * (i + 1) // n) for i in range(n)]
    with ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(partial(_compare_alone, kind), parts))


def _compare_alone(kind: str, seeds: range) -> int:
    with Valkey() as server, valkey.Valkey(port=server.port) as client:
        client.script_load(SCRIPT)
        return compare(client, kind, seeds)


def _compare(client: Any, kind: str, seeds: range) -> int:
    sequences = [KINDS[kind](random.Random(seed)) for seed in seeds]
    for seed, sequence, (answers, rows, ttl_ms) in zip(seeds, sequences, _by_script(client, sequences), strict=True):
        expected, state = _by_rule(sequence)
        assert answers == expected, f"sequence {seed}"
        assert rows == {field: rows_of.text_of(row) for field, row in state.items()}, f"sequence {seed}"
        assert 0 < ttl_ms <= max(keeps_us(ask) for ask, _ in sequence) // 1000 + 1
    return sum(map(len, sequences))


def _by_script(client: Any, sequences: list[Sequence]) -> list[tuple[list[list[int]], dict[str, str], int]]:
    """Return the answers, the rows and the time to live after each sequence."""
    pipe = client.pipeline(transaction=False)
    for n, sequence in enumerate(sequences):
        for ask, now_us in sequence:
            pipe.execute_command("EVALSHA", SHA, 1, f"k{n}", text_of(ask), str(now_us))
        pipe.hgetall(f"k{n}")
        pipe.pttl(f"k{n}")
        pipe.delete(f"k{n}")
    found = iter(pipe.execute())
    results = []
    for sequence in sequences:
        answers = [numbers_of(next(found)) for _ in sequence]
        rows = {field.decode(): text.decode() for field, text in next(found).items()}
        results.append((answers, rows, next(found)))
        next(found)
    return results


def _by_rule(sequence: Sequence) -> tuple[list[list[int]], rows_of.State]:
    state: rows_of.State | None = None
    answers = []
    for ask, now_us in sequence:
        state, answer = exchange(state, ask, now_us)
        answers.append(list(answer.numbers()))
    assert state is not None
    return answers, state


def text_of(ask: Ask) -> str:
    """Return an ask as the script reads it."""
    return ask.text()


def numbers_of(raw: bytes) -> list[int]:
    """Return the numbers of the script's answer to one ask, which must be no error."""
    assert not raw.startswith(b"!"), raw
    return [int(number) for number in raw.split()]
