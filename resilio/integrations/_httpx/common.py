"""What httpx and httpx2 have in common, by which one implementation serves both: same names, no class in common."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from resilio._options.validators import refuse
from resilio._support.extras import missing
from resilio.integrations._httpx.body import AsyncBody, Body, TimedAsyncBody, TimedBody
from resilio.integrations._shared.raised_in import frames_of, ways_of
from resilio.integrations._shared.socket_time import late_of, left_of
from resilio.integrations._shared.translate import Path, in_terms_of

if TYPE_CHECKING:
    from resilio._native.strategies import TimeoutGate

__all__ = ["CLIENTS", "Client", "client_for", "client_of", "named_client", "send_in_time"]

CLIENTS = ("httpx", "httpx2")


class Client:
    """One of the two, with the classes that the transports need."""

    __slots__ = ("_local", "_protocol", "_wire", "base", "module", "name", "timeout")

    def __init__(self, module: ModuleType) -> None:
        """Take what is needed out of the module."""
        self.module: Any = module
        self.name = module.__name__
        self.base: Path = (self.name, "TransportError")
        self.timeout: Path = (self.name, "TimeoutException")
        self._local: tuple[type[BaseException], ...] = tuple(
            getattr(module, name) for name in ("PoolTimeout", "UnsupportedProtocol", "InvalidURL")
        )
        self._protocol: type[Exception] = self.module.LocalProtocolError
        self._wire: type[Exception] = self.module.TransportError

    def body_of(self, base: str, idle: TimeoutGate | None, label: str, is_timed: bool | None = None) -> type[Any]:
        """
        Return the class of the bodies of one transport.

        Args:
            base: The transport's kind.

            idle: Whose clock bounds the time between two parts of a body, if one does.

            label: What is abandoned, for the log.

            is_timed: Whether bodies have to come in time; None: if there is such a clock.
        """
        usual, timed, theirs = _BODIES[base]
        kind = timed if (idle is not None if is_timed is None else is_timed) else usual
        said = {"_translate": self.told, "_idle": idle, "label": label}
        return type(kind.__name__, (kind, getattr(self.module, theirs)), said)

    def told(self, error: Exception) -> Exception:
        """Return an error of resilio's as this client's users know errors, any other as it is."""
        return in_terms_of(error, self.base, self.timeout)

    def is_local(self, error: BaseException) -> bool:
        """
        Tell whether an error is of the caller's own making, or of the client's, and so no word on the server.

        The traceback tells what the class does not: h2 has one for both sides' mistakes, and what a request's body
        raises is raised as it is.
        """
        if isinstance(error, self._protocol):
            return not _has_passed(error, "receive_data", "send_data")  # the latter: to a stream that was reset
        if isinstance(error, self._local):
            return True
        if isinstance(error, self._wire):  # of this exchange, or of the one that the body is read from
            return _raised_in(frames_of(error), ("_send_request_body",))
        return isinstance(error, Exception) and _has_passed(error, "_send_request_body")

    def is_replayable(self, request: Any, *, at_once: bool = False) -> bool:
        """
        Tell whether the body of a request can be sent twice: bytes, or a form whose files can be read again.

        Args:
            request: Of this client.

            at_once: Whether by two copies at a time, of which neither must move a file under the other.
        """
        stream = request.stream
        if isinstance(stream, self.module.ByteStream):
            return True
        fields = getattr(stream, "fields", None)
        return fields is not None and all(_can_repeat(getattr(field, "file", b""), at_once) for field in fields)


def _can_repeat(file: Any, at_once: bool) -> bool:
    if at_once or isinstance(file, (str, bytes)):
        return isinstance(file, (str, bytes))
    seekable = getattr(file, "seekable", None)  # a pipe has a `seek` that raises
    return bool(seekable()) if callable(seekable) else hasattr(file, "seek")


def _has_passed(error: BaseException, *functions: str) -> bool:
    """Tell whether an error, or what it comes from, was raised in a function of one of these names or below it."""
    return any(_raised_in(frames, functions) for frames in ways_of(error))


def _raised_in(frames: list[FrameType], functions: tuple[str, ...]) -> bool:
    return any(frame.f_code.co_name in functions for frame in frames)


@cache
def _known(module: ModuleType) -> Client:
    return Client(module)


def named_client(client: Any, needed_by: str) -> Client:
    """
    Return the client that was asked for, by module or name; None: the one that is imported, or else installed.

    Args:
        client: `httpx` or `httpx2`, the module or its name, or None.

        needed_by: Whose argument it is, for messages.

    Raises:
        TypeError: Neither of the two; or none was given, and both are imported.

        ImportError: It is not installed.
    """
    name = client.__name__ if isinstance(client, ModuleType) else client
    if name is None:
        name = _only_one(needed_by)
    if name not in CLIENTS:
        raise TypeError(f"{needed_by}: client must be httpx or httpx2, not {client!r}")
    try:
        return _known(importlib.import_module(name))
    except ImportError as error:
        raise missing("httpx", "httpx", error) from error


def _only_one(needed_by: str) -> str:
    found = {id(sys.modules[name]): name for name in CLIENTS if sys.modules.get(name) is not None}
    if len(found) > 1:
        raise TypeError(
            f"{needed_by}: httpx and httpx2 are both imported, and their classes do not mix: say client=httpx or "
            "client=httpx2, or give the transport to wrap"
        )
    if found:
        return next(iter(found.values()))
    return "httpx2" if importlib.util.find_spec("httpx2") or not importlib.util.find_spec("httpx") else "httpx"


def client_of(thing: Any, kind: str) -> Client | None:
    """
    Return the client that `thing` belongs to by its class; None: to neither.

    Args:
        thing: A transport, or a client.

        kind: Which of their classes: "AsyncBaseTransport", "BaseTransport", "AsyncClient", "Client".
    """
    for name in CLIENTS:
        module = sys.modules.get(name)
        if module is not None and isinstance(thing, getattr(module, kind)):
            return _known(module)
    return None


def client_for(cls: Any, transport: Any, client: Any) -> Client:
    """
    Return the client whose transport this is.

    Args:
        cls: The guarded transport's class.

        transport: What it is around, or None.

        client: `httpx` or `httpx2`, the module or its name, or None.

    Raises:
        TypeError: They do not go together.
    """
    if transport is None:
        return named_client(client, cls.__name__)
    found = client_of(transport, cls._base)
    wanted = None if client is None else named_client(client, cls.__name__)
    if found is None and wanted is not None and callable(getattr(transport, cls._send_by, None)):
        return wanted  # it is like one, and the user says whose
    if found is None:
        refuse("transport", transport, f"a {cls._base} of httpx or httpx2, which has {cls._send_by}", TypeError)
    if wanted is not None and wanted is not found:
        refuse("transport", transport, f"one of {wanted.name}, as `client` is, and not of {found.name}", TypeError)
    return found


def send_in_time(client: Client, inner: Any, request: Any) -> Any:
    """
    Return the response to a request, none of whose waits takes longer than is left; for threads.

    Args:
        client: Whose request it is.

        inner: The transport that sends it.

        request: Its timeouts are narrowed meanwhile: also that for a connection of the pool.
    """
    given = request.extensions.get("timeout")
    before = given if isinstance(given, dict) else {}
    request.extensions["timeout"] = {name: left_of(before.get(name)) for name in ("connect", "read", "write", "pool")}
    try:
        return inner.handle_request(request)
    except Exception as error:
        late = late_of(error)
        if late is None:
            raise
        raise client.told(late) from error
    finally:
        request.extensions["timeout"] = before if given is None else given


_BODIES: dict[str, tuple[type[Any], type[Any], str]] = {
    "AsyncBaseTransport": (AsyncBody, TimedAsyncBody, "AsyncByteStream"),
    "BaseTransport": (Body, TimedBody, "SyncByteStream"),
}
