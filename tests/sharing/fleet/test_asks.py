"""The native asks and answers of a rate limit, and the command that carries them: equal to what Python would write."""

from __future__ import annotations

import random
import re

import attrs
import pytest

from resilio._native.gates import answers_of, command_of
from resilio.sharing import Answer, Ask, StoreProblem
from resilio.sharing._fleet.ask import LimitAnswer, LimitAsk
from resilio.sharing._fleet.ask_slots import SlotsAnswer, SlotsAsk
from resilio.sharing._fleet.script import SCRIPT

MOST = (1 << 63) - 1
NUMBERS = [0, 1, -1, 9, 10, 1_000_000, -999_999, MOST, -MOST, -MOST - 1]


def _names_in_lua() -> list[str]:
    """Return the names of the numbers of a limit's ask, as the script reads them."""
    found = re.search(r"local ASK = {([^}]*'period_us'[^}]*'least'[^}]*)}", SCRIPT)
    assert found is not None
    return re.findall(r"'(\w+)'", found.group(1))


def test_an_ask_has_its_numbers_in_the_order_of_the_script() -> None:
    names = _names_in_lua()
    ask = LimitAsk(key="k", **{name: number for number, name in enumerate(names)})
    assert ask.numbers() == tuple(range(len(names)))


def test_the_text_of_an_ask_is_its_kind_and_its_numbers() -> None:
    chance, names = random.Random(5), _names_in_lua()
    for _ in range(200):
        numbers = [chance.choice([*NUMBERS, chance.randint(-MOST, MOST)]) for _ in names]
        ask = LimitAsk(key="k", **dict(zip(names, numbers, strict=True)))
        assert ask.text() == f"limit {' '.join(map(str, numbers))}"


def test_an_answer_is_read_from_its_line() -> None:
    chance, ask = random.Random(6), LimitAsk(key="k", asker=1, seq=1, amount=1, period_us=1, burst=1)
    for _ in range(200):
        numbers = [chance.choice([*NUMBERS[:-1], chance.randint(-MOST, MOST)]) for _ in range(7)]
        answer = ask.read(" ".join(map(str, numbers)).encode())
        assert answer == LimitAnswer(*numbers)
        assert answer.numbers() == tuple(numbers)


def test_a_wait_beyond_all_numbers_is_the_longest() -> None:
    """A rate of a millionth a year answers a wait of 10^19 microseconds: an OverflowError ended the whole trip."""
    ask = LimitAsk(key="k", asker=1, seq=1, amount=1, period_us=1, burst=1)
    assert ask.read(b"1 0 0 31536000000000000000 1 0 9") == LimitAnswer(1, 0, 0, MOST, 1, 0, 9)


@pytest.mark.parametrize(
    "line", [b"", b" ", b"1", b"1 2 3 4 5 6", b"1 2 3 4 5 6 7 8", b"1 2 3 4 5 6 x", b"1 2  3 4 5 6 7", b"nan"]
)
def test_a_line_that_is_no_answer_raises(line: bytes) -> None:
    ask = LimitAsk(key="k", asker=1, seq=1, amount=1, period_us=1, burst=1)
    with pytest.raises(ValueError, match="no answer"):
        ask.read(line)


def test_asks_and_answers_are_equal_by_their_numbers() -> None:
    fields = {"asker": 1, "seq": 1, "amount": 1, "period_us": 1, "burst": 1}
    assert LimitAsk(key="k", **fields) == LimitAsk(key="k", **fields)
    assert LimitAsk(key="k", **fields) != LimitAsk(key="other", **fields)
    assert LimitAsk(key="k", **fields) != LimitAsk(key="k", **fields, want=1)
    assert LimitAnswer(1, 2, 3, 4, 5, 6) != LimitAnswer(1, 2, 3, 4, 5, 7)
    assert isinstance(LimitAsk(key="k", **fields), Ask)
    assert isinstance(LimitAnswer(1, 2, 3, 4, 5, 6), Answer)


def _packed(*words: str) -> bytes:
    lengths = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)
    return b"*%d\r\n" % len(words) + lengths


def _limit(key: str, **numbers: int) -> LimitAsk:
    return LimitAsk(key=key, asker=1, seq=1, amount=1, period_us=1, burst=1, **numbers)


@pytest.mark.parametrize("script", ["", "f00", "return 'é'\n" * 500])
def test_a_command_is_its_words_with_their_lengths(script: str) -> None:
    """Keys may have letters of more than a byte; asks of all kinds go together, in their order."""
    asks = [_limit("kéy 🔑"), SlotsAsk(key="slots", asker=2, seq=3, capacity=5), _limit("k", left=-MOST - 1, want=MOST)]
    for n in range(1, 4):
        text = "\n".join(ask.text() for ask in asks[:n])
        packed = _packed("EVALSHA", script, str(n), *[ask.key for ask in asks[:n]], text)
        assert command_of("EVALSHA", script, asks[:n]) == packed
    assert command_of("EVAL", script, []) == _packed("EVAL", script, "0", "")


def test_a_key_that_cannot_be_encoded_raises() -> None:
    with pytest.raises(UnicodeEncodeError):
        command_of("EVALSHA", "f00", [_limit("\ud800")])


def test_answers_are_read_by_the_kinds_of_their_asks() -> None:
    """An error is of its ask alone; a reply with more or less lines than asks is none."""
    asks = [_limit("k"), SlotsAsk(key="slots", asker=2, seq=3, capacity=5), _limit("other")]
    slots = SlotsAnswer(*range(1, 1 + len(attrs.fields(SlotsAnswer))))
    both = f"1 2 3 4 5 6 7\n{' '.join(map(str, slots.numbers()))}".encode()
    problem = StoreProblem("WRONGTYPE no hash")
    assert answers_of(asks, both + b"\n!WRONGTYPE no hash") == [LimitAnswer(1, 2, 3, 4, 5, 6, 7), slots, problem]
    for raw in (b"", both, both + b"\n1 2 3 4 5 6 7\n"):
        with pytest.raises(ValueError, match="answer"):
            answers_of(asks, raw)
