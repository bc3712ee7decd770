"""The thread of a courier: one of a process and fleet, which sleeps until a policy is due or a call rings."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence

from resilio._native import clock
from resilio._native.shared import Member
from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem
from resilio.sharing._fleet.courier import Courier
from resilio.sharing._fleet.engines import Engine, StoreError

__all__ = ["CourierThread", "trip"]

LONGEST_NS = 250_000_000
"""The longest sleep: then it looks whether another process's policies have no courier any more."""

log = logging.getLogger("resilio")


def trip(courier: Courier, engine: Engine, timeout: float) -> Exception | None:
    """Make a trip that is due: ask the store, and hand out the answers. Return the error of a defect of the engine."""
    asks, defect = courier.begin(clock.now_ns()), None
    answers: Sequence[Answer | StoreProblem] | StoreProblem = ()
    if asks:
        try:
            answers = _answers(engine, asks, timeout)
        except StoreError as error:
            answers = StoreProblem(str(error))
        except Exception as error:  # noqa: BLE001 - the fleet logs it; the courier goes on
            answers, defect = StoreProblem(f"{type(error).__name__}: {error}"), error
    courier.end(answers, clock.now_ns())
    return defect


def _answers(engine: Engine, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
    answers = engine.exchange(asks, timeout)
    if len(answers) != len(asks):
        raise StoreError(f"{len(answers)} answers to {len(asks)} asks")
    for one in answers:
        if not isinstance(one, (Answer, StoreProblem)):
            raise TypeError(f"an answer that is none: {one!r}")
    return answers


class CourierThread:
    """
    A daemon thread that makes the trips of one courier.

    It is a thread of the system also where threads are patched to be greenlets: its sleep would stop them all.
    """

    def __init__(
        self,
        courier: Courier,
        engine: Engine,
        timeout: float,
        member: Callable[[], Member],
        look: Callable[[Exception | None], None],
    ) -> None:
        """
        Start the thread.

        Args:
            courier: Whose trips it makes.

            engine: The store.

            timeout: Seconds for a trip.

            member: Returns this process's member of the region in use, on whose bell it sleeps.

            look: Called after each trip, with what a defect of the engine has raised.
        """
        self._courier = courier
        self._engine = engine
        self._timeout = timeout
        self._member = member
        self._look = look
        self._is_stopping = False
        _start(self._run)

    def stop(self) -> None:
        """Let the thread end after the trip under way; it is not waited for."""
        self._is_stopping = True
        self._member().ring()

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._turn()
            except Exception:  # a defect of an engine or a tie must not end the courier of all other policies
                log.exception("the courier of a fleet failed; it goes on")
                self._member().wait(LONGEST_NS)

    def _turn(self) -> None:
        """Sleep until a trip is due, or make it."""
        now_ns = clock.now_ns()
        rest_ns = min(self._courier.due_ns(now_ns) - now_ns, LONGEST_NS)
        if rest_ns > 0:
            self._member().wait(rest_ns)
            return
        self._look(trip(self._courier, self._engine, self._timeout))


def _start(run: Callable[[], None]) -> None:
    """Start a daemon thread of the system."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        gevent.get_original("_thread", "start_new_thread")(run, ())
        return
    threading.Thread(target=run, name="resilio-courier", daemon=True).start()
