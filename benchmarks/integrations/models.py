"""
`python -m benchmarks.integrations.models`: what a guard takes of the throughput of the models' SDKs, on loopback.

A server in a process of its own answers as each provider does: a whole answer at once, or a stream of 20 events, once
all in one piece and once each in a chunk of its own, a millisecond after the one before. Two clients alike, one bare
and one guarded, take turns in slices of few calls. The figures are medians over neighbouring slices: calls in a second,
and processor time of the client for each call, with the limits of 95 % from resampling them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from benchmarks.integrations._pairs import AGAIN, Pairs, Slice, lost, rows
from benchmarks.integrations._serving import serving
from benchmarks.micro._results import Row, Skip

__all__ = ["main", "throughput"]

SDKS = ("openai", "anthropic")
ANSWERS = ("whole answers", "streams in one piece", "streams by the event")
LEAST = 10
"""Pairs, however long they take."""
PAUSE = 0.001
"""Seconds between two events that come one by one."""
WORDS = [f"word{number} " for number in range(17)]
SAID = [{"role": "user", "content": "say something"}]


def _chunk(**fields: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}


def _openai_events() -> Iterator[tuple[str | None, Any]]:
    for delta, reason in [({"role": "assistant"}, None), *(({"content": word}, None) for word in WORDS), ({}, "stop")]:
        yield None, _chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])
    yield None, "[DONE]"


def _anthropic_events() -> Iterator[tuple[str | None, Any]]:
    usage = {"input_tokens": 5, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    block = {"type": "text", "text": ""}
    yield "message_start", {"type": "message_start", "message": message | {"stop_reason": None, "stop_sequence": None}}
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}
    for word in WORDS[:-1]:
        delta = {"type": "text_delta", "text": word}
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    yield "message_stop", {"type": "message_stop"}


def _whole(sdk: str) -> bytes:
    text = "".join(WORDS)
    if sdk == "anthropic":
        usage = {"input_tokens": 5, "output_tokens": 20}
        message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        answer = message | {"content": [{"type": "text", "text": text}], "stop_sequence": None, "usage": usage}
    else:
        usage = {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        answer |= {"usage": usage}
    return _http("application/json", json.dumps(answer).encode())


def _events(sdk: str) -> list[bytes]:
    parts = []
    for name, data in _anthropic_events() if sdk == "anthropic" else _openai_events():
        text = data if isinstance(data, str) else json.dumps(data)
        parts.append(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())
    return parts


def _streamed(sdk: str) -> bytes:
    return _http("text/event-stream", b"".join(_events(sdk)))


def _chunked(sdk: str) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(event), event) for event in _events(sdk)), b"0\r\n\r\n"]


def _http(kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class _Provider(asyncio.Protocol):
    """Answers each request once its body is here, which ends it with a brace; its model is the number of the answer."""

    transport: Any
    answers: ClassVar = {sdk.encode(): ([_whole(sdk)], [_streamed(sdk)], _chunked(sdk)) for sdk in SDKS}

    def connection_made(self, transport: Any) -> None:
        self.transport, self.got = transport, b""

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self.got.endswith(b"}"):
            sdk = b"anthropic" if self.got.startswith(b"POST /v1/messages") else b"openai"
            model = self.got.replace(b" ", b"").partition(b'"model":"')[2]
            self.got = b""
            self.send(self.answers[sdk][int(model[:1])], 0)

    def send(self, pieces: Sequence[bytes], at: int) -> None:
        self.transport.write(pieces[at])
        if at + 1 < len(pieces):
            asyncio.get_running_loop().call_later(PAUSE, self.send, pieces, at + 1)


def _policies() -> dict[str, Callable[[], Any]]:
    from resilio import circuit_breaker, standard

    return {
        AGAIN: lambda: None,
        "breaker": lambda: circuit_breaker(f"breaker {time.monotonic_ns()}"),
        "standard": lambda: standard(f"standard {time.monotonic_ns()}", on="model", idempotent=True),
    }


def _client(sdk: str, url: str) -> Any:
    module = importlib.import_module(sdk)
    if sdk == "anthropic":
        return module.AsyncAnthropic(base_url=url, api_key="key", max_retries=0)
    return module.AsyncOpenAI(base_url=f"{url}/v1", api_key="key", max_retries=0)


def _caller(sdk: str, answers: str) -> Callable[[Any], Any]:
    number = ANSWERS.index(answers)
    options: dict[str, Any] = {"model": str(number), "messages": SAID, "stream": number > 0}

    async def ask(client: Any) -> Any:
        if sdk == "anthropic":
            return await client.messages.create(max_tokens=64, **options)
        return await client.chat.completions.create(**options)

    async def read(client: Any) -> int:
        return len([event async for event in await ask(client)])

    return read if number else ask


async def _slice(call: Callable[[Any], Any], client: Any, calls: int) -> Slice:
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call(client)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(4)))
    return Slice(calls / (time.perf_counter() - began), (time.process_time() - cpu) / calls * 1e6)


async def _pairs(
    sdk: str, answers: str, policy: Any, url: str, pairs: int, calls: int, seconds: float = math.inf
) -> Pairs:
    guard = importlib.import_module(f"resilio.integrations.llm.{sdk}").guard
    call, found = _caller(sdk, answers), []
    other = _client(sdk, url)
    async with _client(sdk, url) as bare, other if policy is None else guard(other, policy) as guarded:
        for client in (bare, guarded) * 3:
            await _slice(call, client, calls)
        gc.collect()
        gc.freeze()
        until = time.perf_counter() + seconds
        for at in range(pairs):
            if at >= LEAST and time.perf_counter() > until:
                break
            order = (bare, guarded) if at % 2 else (guarded, bare)
            got = {id(client): await _slice(call, client, calls) for client in order}
            found.append((got[id(bare)], got[id(guarded)]))
    return found


def throughput(seconds: float) -> list[Row | Skip]:
    """
    Return what a breaker and a standard stack take of each SDK's throughput, and what chance does.

    Args:
        seconds: That all of it may take.
    """
    found: list[Row | Skip] = []
    policies = _policies()
    share = seconds / (len(SDKS) * len(ANSWERS) * len(policies)) * 0.7
    with serving(_Provider) as url:
        for sdk in SDKS:
            if importlib.util.find_spec(sdk) is None:
                found.append(Skip(sdk, "not installed"))
                continue
            for answers in ANSWERS:
                guarded = {
                    name: asyncio.run(_pairs(sdk, answers, make(), url, 1000, 8, share))
                    for name, make in policies.items()
                }
                found += rows(f"{sdk}, {answers}", guarded)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations.models", description=__doc__)
    parser.add_argument("--sdks", nargs="+", choices=SDKS, default=SDKS)
    parser.add_argument("--pairs", type=int, default=200, help="pairs of slices of each SDK and policy")
    parser.add_argument("--calls", type=int, default=8, help="calls in a slice")
    options = parser.parse_args(arguments)
    print(f"Python {sys.version.split(maxsplit=1)[0]}; {options.pairs} pairs of {options.calls} calls, 4 at a time\n")
    print("| SDK | answers | policy | bare, calls/s | bare, CPU us a call | guarded, throughput | guarded, CPU time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with serving(_Provider) as url:
        for sdk in options.sdks:
            for answers in ANSWERS:
                for name, make in _policies().items():
                    pairs = asyncio.run(_pairs(sdk, answers, make(), url, options.pairs, options.calls))
                    cells = [
                        f"{sdk} {importlib.import_module(sdk).__version__}",
                        answers,
                        name,
                        f"{statistics.median(bare.per_second for bare, _ in pairs):.0f}",
                        f"{statistics.median(bare.cpu_us for bare, _ in pairs):.0f}",
                        lost([guarded.per_second / bare.per_second for bare, guarded in pairs]),
                        lost([guarded.cpu_us / bare.cpu_us for bare, guarded in pairs]),
                    ]
                    print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
