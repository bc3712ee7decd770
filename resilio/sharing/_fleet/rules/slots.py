"""
The rule of a fleet's bulkhead: slots are leased by need, and shared max-min where the needs are above the capacity.

    G1  Slots on lease are never more than the capacity; a holder stops before the store forgets its lease.

An asker keeps what its calls use, whatever else is true: a slot in use cannot be taken back. But it takes new calls
only on slots that it has a lease for, or that are free. After its rows were lost the store gives no more than that,
until all leases of before have ended.
"""

from __future__ import annotations

from resilio.sharing._fleet.ask_slots import SlotsAnswer, SlotsAsk
from resilio.sharing._fleet.rules.rows import HEAD, State

__all__ = ["exchange", "keeps_us"]


def exchange(state: State, ask: SlotsAsk, now_us: int) -> SlotsAnswer:
    """Renew an asker's lease, for as many slots as there are for it; an ask that arrives again changes nothing."""
    (learns_until,) = state.get(HEAD, (0,))
    _forget(state, now_us)
    field, want = str(ask.asker), max(ask.want, ask.kept)
    before = state.get(field)
    if before is not None and ask.seq <= before[0]:
        return _answer(state, ask, before[1], _room(state, ask))
    if before is None and ask.ends_us > now_us:  # the rows were lost: others may have leases of which nothing is known
        learns_until = now_us + ask.ttl_us
    state[field] = (ask.seq, 0, want, now_us + ask.ttl_us)
    room = 0 if now_us < learns_until else _room(state, ask)
    held = max(ask.kept, min(_fair(state, ask), room))
    state[field] = (ask.seq, held, want, now_us + ask.ttl_us)
    state[HEAD] = (learns_until,)
    return _answer(state, ask, held, room)


def _forget(state: State, now_us: int) -> None:
    """Forget leases that have lapsed."""
    for field in [field for field, row in state.items() if field != HEAD and row[3] <= now_us]:
        del state[field]


def _leased(state: State) -> float:
    return sum(row[1] for field, row in state.items() if field != HEAD)


def _room(state: State, ask: SlotsAsk) -> float:
    """Return the slots that other askers do not have."""
    return ask.capacity - _leased(state) + state[str(ask.asker)][1]


def _fair(state: State, ask: SlotsAsk) -> float:
    """Return the asker's share: all get what they want, or as much as the others that want more (max-min)."""
    wants = sorted((row[2], int(field)) for field, row in state.items() if field != HEAD)
    left: float = ask.capacity
    for i, (want, asker) in enumerate(wants):
        share = min(want, left // (len(wants) - i))
        if asker == ask.asker:
            return share
        left -= share
    return 0


def _answer(state: State, ask: SlotsAsk, held: float, room: float) -> SlotsAnswer:
    left = max(0, ask.capacity - _leased(state))
    fair, ends = min(_fair(state, ask), max(room, ask.sure)), state[str(ask.asker)][3]
    return SlotsAnswer(
        seq=ask.seq, held=int(held), fair=int(fair), peers=len(state) - 1, left=int(left), ends_us=int(ends)
    )


def keeps_us(ask: SlotsAsk) -> int:
    """Return how long the state is kept: longer than a lease."""
    return 4 * ask.ttl_us
