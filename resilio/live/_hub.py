"""
Fan-out of one reading to all viewers: it is encoded once, and the same bytes go to each viewer's short queue.

A thread reads about once a second while there are viewers, and ends without them. A task would hold up the calls of
its event loop, and would need a lifespan, which a mounted app does not get. The thread never waits for a viewer: one
whose queue overflows gets a full snapshot, once it takes frames again, in place of those it missed.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections import deque
from time import monotonic, sleep
from typing import Any, Protocol

from resilio import _backends
from resilio._events import log
from resilio._support.after_fork import in_child
from resilio.live._sampler import SLICE, Tick

__all__ = ["Hub", "Source", "Viewer", "encode", "encode_rows", "frame"]

_QUEUE = 4  # frames that may wait for one viewer
_REPLAY = 8  # frames kept for viewers that reconnect; beyond, a snapshot of 500 policies takes a few ms
_LINGER = 3  # readings without viewers until the thread ends, so that a viewer that reconnects finds it running


class Source(Protocol):
    """Policies to show, of this process or of another one."""

    def read(self) -> Tick:
        """Return the changes since the last call."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return the full state as last read."""
        ...

    def rest(self) -> None:
        """Release resources: the last viewer has left."""
        ...


def encode(data: Any) -> bytes:
    """Return data as JSON without blanks."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")  # for lone surrogates


def encode_rows(rows: list[dict[str, Any]]) -> bytes:
    """Return a list as JSON without blanks; encodes in slices, and yields the GIL between two."""
    parts = []
    for start in range(0, len(rows), SLICE):
        parts.append(encode(rows[start : start + SLICE])[1:-1])
        sleep(0)
    return b"[" + b",".join(parts) + b"]"


def _with_rows(name: str, rows: list[dict[str, Any]], fields: dict[str, Any]) -> bytes:
    """Return an object as JSON whose field `name` is a long list of rows."""
    return encode(fields)[:-1] + b"," + encode(name) + b":" + encode_rows(rows) + b"}"


def frame(event: str, data: bytes, ident: str | None = None) -> bytes:
    """Return a server-sent event."""
    head = f"event: {event}\n" if ident is None else f"id: {ident}\nevent: {event}\n"
    return head.encode() + b"data: " + data + b"\n\n"


class Viewer:
    """Queue of frames for one viewer; `_backends.park` can wait for it."""

    def __init__(self) -> None:
        """Start with an empty queue, and in need of a snapshot."""
        self.fresh: bool = True  # needs a snapshot
        self.stalled: bool = False  # has taken no frames since its queue overflowed
        self._frames: deque[bytes] = deque()
        self._lock = threading.RLock()  # a finaliser may wake in between
        self._waker: _backends.Waker | None = None

    def offer(self, data: bytes) -> bool:
        """Queue a frame; return False if the queue is full, which clears it and makes the viewer need a snapshot."""
        with self._lock:
            fits = len(self._frames) < _QUEUE
            if fits:
                self._frames.append(data)
            else:
                self._frames.clear()
                self.fresh = self.stalled = True
            waker, self._waker = self._waker, None
        if waker is not None:
            waker()
        return fits

    def take(self) -> list[bytes]:
        """Remove and return the queued frames."""
        with self._lock:
            frames = list(self._frames)
            self._frames.clear()
            self.stalled = False
            return frames

    def bind(self, waker: _backends.Waker, /) -> bool:
        """Register `waker` to be called at the next frame; return True if a frame is already queued."""
        with self._lock:
            if self._frames:
                return True
            self._waker = waker
            return False

    def unbind(self) -> None:
        """Forget the waker."""
        with self._lock:
            self._waker = None

    def lost(self) -> None:
        """Forget the waker, whose event loop is closed."""
        self.unbind()


class Hub:
    """
    The viewers of a source, and the thread that reads it for them.

    Args:
        source: The policies to show.

        interval: Seconds between two readings.

        boot: Identifies this process in the ids of frames.

        about: Further fields of each snapshot.
    """

    def __init__(self, source: Source, interval: float, boot: str, **about: Any) -> None:
        self.source = source
        self.interval = interval
        self.boot = boot
        self._about = about
        self._viewers: set[Viewer] = set()
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=_REPLAY)
        self._seq = 0
        self._full: bytes | None = None
        self._thread: threading.Thread | None = None
        self._blamed: set[type[Exception]] = set()
        self._begin()
        _hubs.add(self)

    def _begin(self) -> None:
        """Create the locks, with no thread; again in a forked child, where the parent's thread may have held them."""
        self._asked = threading.Event()
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        self._thread = None

    @property
    def running(self) -> bool:
        """True while the reading thread runs."""
        return self._thread is not None

    def __len__(self) -> int:
        return len(self._viewers)

    def join(self, last: str | None = None) -> Viewer:
        """
        Return a new viewer, which first gets a snapshot.

        Args:
            last: Id of the last frame that the client received: if it missed few, it gets those instead.
        """
        viewer = Viewer()
        with self._lock:
            if self._thread is not None:
                self._replay(viewer, last)
            self._viewers.add(viewer)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="resilio-live", daemon=True)
                self._thread.start()
        self._asked.set()
        return viewer

    def _replay(self, viewer: Viewer, last: str | None) -> None:
        boot, _, seq = (last or "").rpartition("-")
        if boot != self.boot or not seq.isdecimal() or len(seq) > 18:
            return
        missed = [data for number, data in self._recent if number > int(seq)]
        if len(missed) == self._seq - int(seq) and len(missed) < _QUEUE:
            viewer.fresh = False
            for data in missed:
                viewer.offer(data)

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        with self._lock:
            self._viewers.discard(viewer)

    def refresh(self) -> None:
        """Read once for a single snapshot request, unless the thread reads already."""
        # `_lock` would make `join` wait. The thread misses the changes that are read here, but a thread that starts
        # meanwhile has only viewers that get a snapshot.
        with self._reading:
            if self._thread is None:
                self.source.read()

    def wake(self) -> None:
        """Wake all viewers with a comment frame."""
        with self._lock:
            viewers = list(self._viewers)
        for viewer in viewers:
            viewer.offer(b":\n\n")

    # ---- the thread

    def _run(self) -> None:
        with self._reading:  # a single request may still be reading
            self.source.rest()  # not to average over the time since such a request, or since a fork
        alone, due = 0, monotonic()
        while self._stays(alone):
            self._asked.clear()
            try:
                if due <= monotonic():
                    alone = 0 if len(self) else alone + 1
                    due = monotonic() + self.interval
                    self._full = None
                    with self._reading:
                        tick = self.source.read()
                    self._publish(tick)
                self._serve_fresh()
            except Exception as error:  # noqa: BLE001 - the thread must not end while there are viewers
                self._trouble(error)
            self._asked.wait(max(0.0, due - monotonic()))  # a new viewer is served at once

    def _stays(self, alone: int) -> bool:
        with self._lock:
            if alone < _LINGER and self._thread is threading.current_thread():
                return True
            if self._thread is threading.current_thread():
                self._recent.clear()
                self._full = None
                self.source.rest()
                self._thread = None
            return False

    def _publish(self, tick: Tick) -> None:
        if not tick:
            return
        seq = self._seq + 1  # only this thread increments it, so it need not hold the lock while it encodes
        news = {"seq": seq, "removed": tick.removed, "events": tick.events}
        data = frame("delta", _with_rows("changed", tick.changed, news), f"{self.boot}-{seq}")
        with self._lock:
            self._seq = seq
            self._recent.append((seq, data))
            viewers = [viewer for viewer in self._viewers if not viewer.fresh]
        for viewer in viewers:
            viewer.offer(data)

    def _serve_fresh(self) -> None:
        """Send a snapshot to each viewer that needs one and has room; encoded once for all."""
        with self._lock:
            fresh = [viewer for viewer in self._viewers if viewer.fresh and not viewer.stalled]
        data = self.everything() if fresh else b""
        for viewer in fresh:
            viewer.fresh = False
            viewer.offer(data)

    def everything(self) -> bytes:
        """Return the snapshot frame of the last reading; encoded once between two readings."""
        if self._full is None:
            head = {"boot": self.boot, "seq": self._seq, "interval": self.interval, **self._about}
            data = {**head, **self.source.snapshot()}
            rows = data.pop("policies", [])
            self._full = frame("snapshot", _with_rows("policies", rows, data), f"{self.boot}-{self._seq}")
        return self._full

    def _trouble(self, error: Exception) -> None:
        """Report an error: to the log once for each type, to the viewers each time."""
        if type(error) not in self._blamed:
            self._blamed.add(type(error))
            log.say(log.ERROR, "the live page cannot read the policies", error=error)
        data = frame("trouble", encode({"error": type(error).__name__}))
        for viewer in list(self._viewers):
            viewer.offer(data)


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


def _after_fork() -> None:
    """Reset all hubs in a forked child, which has neither the threads nor the viewers."""
    for hub in list(_hubs):
        hub._begin()
        hub._viewers.clear()


in_child("threads", _after_fork)
