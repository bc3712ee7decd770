"""Streams read event by event, held against a reader by the book; members of JSON objects, held against `json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio._native.sse import BEGINS, Kinds, Reader, members
from resilio.integrations.llm._dialects import ANTHROPIC, OPENAI, Dialect

MARK = b"\xef\xbb\xbf"
OURS = {
    ANTHROPIC: ("message_start", ("message_stop",), None),
    OPENAI: ("response.", ("response.completed", "response.failed"), "response.failed"),
}
"""How the types begin of what has a known end, which are that end, and which one brings an error, as "error" does."""


def by_the_book(body: bytes) -> Iterator[tuple[str, str]]:
    """Give name and data of each event, the last one without its blank line too: WHATWG HTML, section 9.2.6."""
    name, data = "", None
    for line in [*re.split(rb"\r\n|\n|\r", body.removeprefix(MARK)), b"", b""]:
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            data = text if data is None else f"{data}\n{text}"
        elif field == b"event":
            name = text
        elif not line:
            if name or data is not None:
                yield name, data or ""
            name, data = "", None


class Plain:
    """What a stream has said, by parsing everything."""

    def __init__(self, dialect: Dialect, body: bytes) -> None:
        self.begun = self.complete = self.reasoned = False
        self.error: Any = None
        self.usage: dict[str, float] = {}
        for name, text in by_the_book(body):
            self._read(dialect, name, _object(text), text)

    def _read(self, dialect: Dialect, name: str, data: dict[str, Any], text: str) -> None:
        kind = data["type"] if isinstance(data.get("type"), str) else name
        told = [_within(data, *path, "usage") for path in ((), ("message",), ("response",))]
        told = [one for one in told if one is not None]
        if told:
            self.usage |= dialect.usage(json.dumps(told[0]).encode())
        begins, ends, fails = OURS[dialect]
        self.begun |= kind.startswith(begins) or "choices" in data
        broken = "error" in (kind, name) or kind == fails or data.get("error") is not None
        if self.error is None and broken:
            self.error = dialect.error_in(name == "error", data)
        if self.error is None:
            self.complete |= text.startswith("[DONE]") or kind in ends
            choices = data.get("choices")
            if choices != [] and "choices" in data:
                every = choices if isinstance(choices, list) else ()
                self.reasoned = any(isinstance(one, dict) and one.get("finish_reason") is not None for one in every)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Read) and vars(other.said) == {
            "complete": self.complete,
            "cut": self.begun and not self.complete and not self.reasoned,
            "error": self.error,
            "usage": self.usage,
        }

    __hash__ = None  # type: ignore[assignment]


class Said:
    """What a reader tells in the end."""

    def __init__(self, reader: Reader) -> None:
        self.complete, self.cut, self.error, self.usage = reader.complete, reader.cut, reader.error, reader.usage


class Read:
    """What the reader makes of a stream in pieces: all that it tells, what it gave, and after how many bytes."""

    def __init__(self, dialect: Dialect, chunks: Iterable[bytes], *, events: bool = True) -> None:
        reader, read = Reader(dialect, events=events), 0
        self.given: list[bytes] = []
        self.moved_at: list[int] = []
        for chunk in chunks:
            reader.feed(chunk)
            read += len(chunk)
            if reader.moved:
                self.given.append(reader.take())
                self.moved_at.append(read)
        reader.end()
        self.left = reader.take()
        self.said = Said(reader)


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text) if text.startswith("{") else None
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {}


def _within(data: Any, *path: str) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def event(data: Any, name: str = "", end: str = "\n") -> bytes:
    """One event, whose JSON has no line ends."""
    text = data if isinstance(data, str) else json.dumps(data)
    return ((f"event: {name}{end}" if name else "") + f"data: {text}{end}{end}").encode()


def claude(end: str = "\n") -> bytes:
    """A whole stream of Anthropic's, with usage in its first event and its last but one."""
    message = {"type": "message", "usage": {"input_tokens": 3, "output_tokens": 1}}
    parts = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'say "usage": {\\'}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": '{"type": "message_stop"}'}},
        {"type": "content_block_stop"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    return b"".join(event(part, str(part["type"]), end) for part in parts)


def chat(*, done: bool = True, usage: Any = None) -> bytes:
    """A whole stream of OpenAI's chats."""
    deltas = [({"role": "assistant", "content": ""}, None), ({"content": "a"}, None), ({}, "stop")]
    parts = [{"choices": [{"delta": delta, "finish_reason": why}], "usage": None} for delta, why in deltas]
    return b"".join(map(event, [*parts, {"choices": [], "usage": usage}, *(["[DONE]"] if done else [])]))


BODIES = {
    "anthropic": (ANTHROPIC, claude()),
    "anthropic, CR LF": (ANTHROPIC, claude("\r\n")),
    "anthropic, CR": (ANTHROPIC, claude("\r")),
    "chat": (OPENAI, chat(usage={"prompt_tokens": 4, "completion_tokens": 5})),
    "byte order mark": (OPENAI, MARK + chat()),
    "mixed ends, comments, lines": (
        OPENAI,
        (
            b': hello\n\nid: 1\r\ndata: {"choices":\rdata: [{"delta": {"content":\ndata: "a"}}]}\n\r\n'
            b'retry: 5\n\r: ping\r\rdata:{"usage": {"prompt_tokens": 2},\r\ndata:  "choices": []}\r\n\r\n\n'
            b"data: [DONE]"
        ),
    ),
    "an error": (OPENAI, chat(done=False) + event({"error": {"code": "slow_down"}}) + event("[DONE]")),
    "an error by its name": (ANTHROPIC, claude()[:400] + b"\n\n" + event({"error": {"type": "x"}}, "error")),
    "nothing that is known": (ANTHROPIC, b'data\n\nevent: x\n\ndata: {"broken\n\nfoo: bar\n\ndata: ["type"]\n\n'),
    "invalid UTF-8": (
        ANTHROPIC,
        (
            b'event: \xff\ndata: {"type": "content_block_delta", "\xff": "\xc3"}\n\n'
            b'data: {"type": "error", "error": {"type": "\xff"}}\n\n'
        ),
    ),
}


@pytest.mark.parametrize(("dialect", "body"), BODIES.values(), ids=BODIES.keys())
def test_nothing_depends_on_where_bytes_are_cut(dialect: Dialect, body: bytes) -> None:
    """In two anywhere, or byte by byte: the same is said, all bytes are given, and an event as its last byte comes."""
    plain = Plain(dialect, body)
    whole = Read(dialect, [body])
    assert plain == whole
    bytewise = Read(dialect, [body[at : at + 1] for at in range(len(body))])
    assert plain == bytewise
    for read in (whole, bytewise):
        assert b"".join([*read.given, read.left]) == body
    for at in range(len(body)):
        read = Read(dialect, [body[:at], body[at:]])
        assert plain == read, at
        assert b"".join([*read.given, read.left]) == body
        assert (at in read.moved_at) == any(moved <= at for moved in bytewise.moved_at), at


def test_known_bodies_say_what_they_say() -> None:
    """The reader by the book is not wrong in the same way."""
    said = {name: Read(dialect, [body]).said for name, (dialect, body) in BODIES.items()}
    for name in ("anthropic", "anthropic, CR LF", "anthropic, CR"):
        assert said[name].complete
        assert said[name].usage == {"input_tokens": 3, "output_tokens": 9}
    assert said["chat"].usage == {"input_tokens": 4, "output_tokens": 5}
    assert said["byte order mark"].complete
    assert said["mixed ends, comments, lines"].complete
    assert said["mixed ends, comments, lines"].usage == {"input_tokens": 2, "output_tokens": 0}
    assert said["an error"].error == ({"code": "slow_down"}, True)
    assert not said["an error"].complete
    assert said["an error by its name"].error == ({"type": "x"}, True)
    assert said["invalid UTF-8"].error == ({"type": "\ufffd"}, False)


LINES = st.sampled_from(
    [
        *claude().split(b"\n"),
        *chat(usage={"prompt_tokens": 1}).split(b"\n"),
        b"",
        b"",
        b"data",
        b"data:",
        b"event: error",
        b'data: {"type": "response.completed", "response": {"usage": {"input_tokens": 1}}}',
        b'data: {"type": "response.failed", "response": {"error": {"code": "x"}}}',
        b'data: {"error": {}}',
        b'data: {"type": "error"}',
        b": comment",
        b"databases: no",
        b"data : no",
        MARK,
    ]
)


@given(
    st.sampled_from([ANTHROPIC, OPENAI]),
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=12),
    st.lists(st.integers(1, 40), max_size=30),
)
def test_whatever_lines_come_in_whatever_pieces(
    dialect: Dialect, lines: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    """Lines in any order, with any ends, cut anywhere, are what they are by the book."""
    body = b"".join(line + end for line, end in lines)
    chunks, at = [], 0
    for size in sizes:
        chunks.append(body[at : at + size])
        at += size
    chunks.append(body[at:])
    read = Read(dialect, chunks)
    assert Plain(dialect, body) == read
    assert b"".join([*read.given, read.left]) == body


@pytest.mark.untraced  # others trace the same lines in less time
def test_huge_events_take_time_by_their_length() -> None:
    """An event of megabytes in small pieces is searched once, and copied into one place."""
    text = 'x\\"' * 1_000_000
    body = claude() + event({"type": "content_block_delta", "delta": {"text": text}, "usage": {"output_tokens": 7}})
    read = Read(ANTHROPIC, [body[at : at + 1000] for at in range(0, len(body), 1000)])
    assert read.said.usage["output_tokens"] == 7
    assert len(read.given[-1]) > len(text)
    assert b"".join([*read.given, read.left]) == body


def test_what_is_not_visible_is_held_back() -> None:
    """The first piece has all that came before it; later ones only wait for something that is no ping."""
    chunks = [
        b'data: {"type": "response.created"}\n\n',
        b": ping\n\n",
        b'data: {"type": "response.output_text.delta", "delta": "a"}\n\n',
        b'data: {"type": "keepalive"}\n\n',
        b'data: {"type": "response.output_text.done"}\n\n',
        b'data: {"type": "response.completed", "response": {}}\n\n',
    ]
    read = Read(OPENAI, chunks)
    assert read.given == [b"".join(chunks[:3]), b"".join(chunks[3:5]), chunks[5]]
    assert read.said.complete
    assert not read.said.cut


def test_who_speaks_is_not_visible_of_a_chat() -> None:
    """A chat is visible from its first content, reason or usage on."""
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    more = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    assert Read(OPENAI, [role, role, more, role]).given == [role + role + more, role]
    assert Read(OPENAI, [b'data: {"choices": [{"text": "a"}]}\n\n']).given
    assert Read(OPENAI, [b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n']).given
    assert not Read(OPENAI, [b'data: {"choices": []}\n\n']).given


def test_a_chat_may_end_with_its_reason_alone() -> None:
    """Some servers send no [DONE]: a finish_reason says as well that the answer is whole."""
    delta = b'data: {"choices": [{"delta": {"content": "\\"finish_reason\\": 1"}, "finish_reason": null}]}\n\n'
    last = b'data: {"choices": [{"delta": {}}, {"delta": {}, "finish_reason": "stop"}]}\n\n'
    assert Read(OPENAI, [delta]).said.cut
    assert not Read(OPENAI, [delta, last]).said.cut
    assert Read(OPENAI, [delta, last, delta]).said.cut


def test_usage_after_the_reason_begins_no_other_answer() -> None:
    """
    The usage that a caller asked for comes after the finish_reason, in a piece without choices.

    Where no [DONE] followed, that piece made a whole answer a broken one.
    """
    assert not Read(OPENAI, [chat(done=False, usage={"prompt_tokens": 4})]).said.cut
    assert Read(OPENAI, [b'data: {"choices": [ ]}\n\n']).said.cut


def test_after_an_error_nothing_moves() -> None:
    """What comes after an error makes no difference any more."""
    read = Read(ANTHROPIC, [claude(), event({"error": {}}, "error"), claude()])
    assert len(read.given) == 1
    assert read.left == event({"error": {}}, "error") + claude()


def test_what_is_no_stream_of_events_is_given_piece_by_piece() -> None:
    """As Bedrock's: nothing is known of it, so it is never cut."""
    read = Read(ANTHROPIC, [b"a", claude(), bytearray(b"b")], events=False)  # type: ignore[list-item]
    assert read.given == [b"a", claude(), b"b"]
    assert not read.said.cut
    assert not read.said.complete
    assert read.said.usage == {}


def test_an_error_of_the_dialect_is_raised_where_it_reads() -> None:
    """What a dialect cannot read is no silent end."""

    class Odd(Dialect):
        kinds = Kinds({"x": BEGINS})

    reader = Reader(Odd(), events=True)
    with pytest.raises(NotImplementedError):
        reader.feed(b'data: {"usage": {}}\n\n')


def test_kinds_are_bounded() -> None:
    """They have a place in the reader itself."""
    with pytest.raises(ValueError, match="at most 24, not 25"):
        Kinds({str(kind): BEGINS for kind in range(25)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["model", "stream", "max_tokens", "usage"]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=8), JSON), max_size=6),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_members_are_what_they_are_when_all_is_parsed(
    pairs: list[tuple[str, Any]], ascii_only: bool, indent: int | None
) -> None:
    """Scalars as values, objects and arrays as their JSON; the last of one name counts."""
    parts = [
        f"{json.dumps(name, ensure_ascii=ascii_only)}: {json.dumps(value, ensure_ascii=ascii_only, indent=indent)}"
        for name, value in pairs
    ]
    content = ("{ " + " , ".join(parts) + "\n}").encode("utf-8", "surrogatepass")
    found = members(content, *map(str.encode, NAMES))
    known = dict(pairs)
    for name, one in zip(NAMES, found, strict=True):
        value, expected = json.loads(one) if isinstance(one, bytes) else one, known.get(name)
        assert value == expected
        assert type(value) is type(expected)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ ntrue1"', max_size=60).map(str.encode))
def test_members_of_anything(content: bytes) -> None:
    """What is no object has no members; nothing is read beyond its end."""
    found = members(content, b"", b"n", b"true")
    try:
        parsed = json.loads(content)
    except ValueError:
        return
    expected = [parsed.get(name) if isinstance(parsed, dict) else None for name in ("", "n", "true")]
    assert [json.loads(one) if isinstance(one, bytes) else one for one in found] == expected


def test_a_cut_object_has_no_members() -> None:
    """Wherever it is cut: half an answer says nothing."""
    content = b'{"usage": {"a": "b\\"}"}, "n": [1, "]"], "x": null, "t": true}'
    for at in range(len(content)):
        assert members(content[:at], b"usage", b"n", b"t") == [None] * 3, at
    assert members(content, b"usage", b"n", b"x", b"t") == [b'{"a": "b\\"}"}', b'[1, "]"]', None, True]
    assert members(content + b" x", b"t") == [None]


def test_members_that_are_odd() -> None:
    """What is none of the usual is parsed, and nothing if that fails."""
    content = b'{"a": -1, "b": 1.5e3, "c": "\\u00e9", "d": 007, "e": nope, "f": 123456789012345678901, "g": 0}'
    assert members(content, b"a", b"b", b"c", b"d", b"e", b"f", b"g") == [
        -1, 1500.0, "é", None, None, 123456789012345678901, 0,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="at most 8, not 9"):
        members(b"{}", *[b"x"] * 9)
    with pytest.raises(TypeError):
        members(b"{}", "x")  # type: ignore[arg-type]


def test_a_reader_that_is_fed_while_it_reads_rejects_that() -> None:
    """The bytes of an event that came in parts stay where they are while they are read, whoever feeds meanwhile."""
    rejected: list[BufferError] = []

    class Meddling:
        """A dialect by which an event feeds the reader that reads it."""

        kinds = Kinds({"message_start": BEGINS})

        def usage(self, told: bytes) -> dict[str, float]:
            """Feed far more than there is room for."""
            try:
                reader.feed(b"x" * 1_000_000)
            except BufferError as error:
                rejected.append(error)
            return {"input_tokens": float(len(told))}

    reader = Reader(Meddling(), events=True)
    reader.feed(b'data: {"type": "message_start", ')
    reader.feed(b'"message": {"usage": {"input_tokens": 3}}}\n\n')
    assert len(rejected) == 1
    assert reader.usage == {"input_tokens": 19.0}
    assert reader.cut
