"""The names that httpx and httpx2 share, so that one implementation serves both; they have no class in common."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from resilio._options.validators import reject
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
    """One of the two clients, with the classes that the transports need."""

    __slots__ = ("_local", "_protocol", "_wire", "base", "module", "name", "timeout")

    def __init__(self, module: ModuleType) -> None:
        """Look up the classes in the module."""
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
            base: Name of the transport's base class.

            idle: The timeout whose clock bounds the time between two parts of a body, or None.

            label: Name of a response in the log, if it is abandoned.

            is_timed: True if bodies have a time limit; None: if `idle` is not None.
        """
        usual, timed, theirs = _BODIES[base]
        kind = timed if (idle is not None if is_timed is None else is_timed) else usual
        members = {"_translate": self.translated, "_idle": idle, "label": label}
        return type(kind.__name__, (kind, getattr(self.module, theirs)), members)

    def translated(self, error: Exception) -> Exception:
        """Translate an error of resilio into this client's terms; return any other error unchanged."""
        return in_terms_of(error, self.base, self.timeout)

    def is_local(self, error: BaseException) -> bool:
        """
        Return True if the caller or the client caused an error, so that it is no evidence about the server.

        Where the class is ambiguous, the traceback decides: h2 has one class for the mistakes of both sides, and an
        error of a request's body is raised unchanged.
        """
        if isinstance(error, self._protocol):
            return not _has_passed(error, "receive_data", "send_data")  # the latter: on a stream that was reset
        if isinstance(error, self._local):
            return True
        if isinstance(error, self._wire):  # of this exchange, or of another that the body is read from
            return _raised_in(frames_of(error), ("_send_request_body",))
        return isinstance(error, Exception) and _has_passed(error, "_send_request_body")

    def is_replayable(self, request: Any, *, at_once: bool = False) -> bool:
        """
        Return True if the body of a request can be sent twice: bytes, or a form whose files can be read again.

        Args:
            request: A request of this client.

            at_once: True for two copies at the same time, which must not share the position of a file.
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
    """Return True if an error, or one of its causes, was raised in or below a function of one of these names."""
    return any(_raised_in(frames, functions) for frames in ways_of(error))


def _raised_in(frames: list[FrameType], functions: tuple[str, ...]) -> bool:
    return any(frame.f_code.co_name in functions for frame in frames)


@cache
def _known(module: ModuleType) -> Client:
    return Client(module)


def named_client(client: Any, needed_by: str) -> Client:
    """
    Return the requested client; None: the one that is imported, or else the one that is installed.

    Args:
        client: `httpx` or `httpx2`, the module or its name, or None.

        needed_by: Name of the function or class that has the argument, for messages.

    Raises:
        TypeError: `client` is neither of the two; or it is None, and both are imported.

        ImportError: The client is not installed.
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
    Return the client to which the class of `thing` belongs; None: neither.

    Args:
        thing: A transport, or a client.

        kind: Name of the class: "AsyncBaseTransport", "BaseTransport", "AsyncClient", "Client".
    """
    for name in CLIENTS:
        module = sys.modules.get(name)
        if module is not None and isinstance(thing, getattr(module, kind)):
            return _known(module)
    return None


def client_for(cls: Any, transport: Any, client: Any) -> Client:
    """
    Return the client of a guarded transport.

    Args:
        cls: The guarded transport's class.

        transport: The transport inside, or None.

        client: `httpx` or `httpx2`, the module or its name, or None.

    Raises:
        TypeError: The arguments contradict each other.
    """
    if transport is None:
        return named_client(client, cls.__name__)
    found = client_of(transport, cls._base)
    wanted = None if client is None else named_client(client, cls.__name__)
    if found is None and wanted is not None and callable(getattr(transport, cls._send_by, None)):
        return wanted  # duck-typed, and the user names its client
    if found is None:
        reject("transport", transport, f"a {cls._base} of httpx or httpx2, which has {cls._send_by}", TypeError)
    if wanted is not None and wanted is not found:
        reject("transport", transport, f"one of {wanted.name}, as `client` is, and not of {found.name}", TypeError)
    return found


def send_in_time(client: Client, inner: Any, request: Any) -> Any:
    """
    Send a request in a thread, with each wait bounded by the time left, and return the response.

    Args:
        client: The client of the request.

        inner: The transport that sends it.

        request: The request. Its timeouts are narrowed meanwhile, that for a connection of the pool included.
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
        raise client.translated(late) from error
    finally:
        request.extensions["timeout"] = before if given is None else given


_BODIES: dict[str, tuple[type[Any], type[Any], str]] = {
    "AsyncBaseTransport": (AsyncBody, TimedAsyncBody, "AsyncByteStream"),
    "BaseTransport": (Body, TimedBody, "SyncByteStream"),
}
