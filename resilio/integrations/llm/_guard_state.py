"""Shared state of a guarded client's calls: the client and its SDK, the policy, estimates and counters."""

from __future__ import annotations

import sys
import threading
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._options.validators import reject
from resilio._policy.base import Policy
from resilio._support.after_fork import free_lock
from resilio._support.call_site import outside
from resilio.integrations._shared.held_permits import log_abandoned
from resilio.integrations._shared.translate import in_terms_of
from resilio.integrations.llm._estimate import Estimates

if TYPE_CHECKING:
    from resilio.integrations.llm._dialects import Dialect

__all__ = ["GuardState", "InnerRetryWarning", "UsageWarning"]


class InnerRetryWarning(UserWarning):
    """Both an SDK and its policy retry the same requests, so that attempts multiply."""


class UsageWarning(UserWarning):
    """Streams end without their usage, so a spend limit charges each what was reserved for it."""


class GuardState:
    """
    Shared state of a guarded client's calls.

    Attributes:
        policy: The policy.

        max_pause: Upper bound, in seconds, on the time for which a provider's Retry-After stops all calls.

        whole_answers: Whether a stream that ends before the answer does is an error.

        restarts: Whether a streamed answer is shown once it is whole, so that an attempt can begin anew.

        providers: The clients of the endpoints of the policy's pool; None if it has none.

        clocks: The timeout whose clocks a sync client checks by itself.

        limits: Whether the policy can have rate limits.

        retries: Whether the policy retries.

        inner_retries: Requests that the SDK retried by itself although the policy retries.

        abandoned: Streams that were garbage-collected before they were read to the end or closed.

        estimates: Recent cost of each model's calls.
    """

    limits: bool
    retries: bool
    providers: Any
    clocks: Any
    answer: Any
    events: Any

    def __init__(
        self,
        client: Any,
        policy: Policy[Any],
        dialect: Dialect,
        sdk: ModuleType,
        *,
        whole_answers: bool,
        max_pause: float,
        restarts: bool = False,
    ) -> None:
        """Begin without calls."""
        self.client: Any = client
        self.policy: Policy[Any] = policy
        self.dialect: Dialect = dialect
        self.sdk: ModuleType = sdk
        self.http: ModuleType = _module_of(client._client)
        self.whole_answers: bool = whole_answers
        self.max_pause: float = max_pause
        self.restarts: bool = restarts
        self.estimates: Estimates = Estimates()
        self.inner_retries: int = 0
        self.abandoned: int = 0
        self.is_async: bool = issubclass(type(client._client), self.http.AsyncClient)
        self._lock = threading.Lock()
        free_lock(self, "_lock")
        self._warned = False
        self._without_usage: str | None = None  # what to warn of at the next request
        self._is_usage_known = True

    def timed_out(self, error: Exception) -> Exception:
        """Return a timeout of a policy as one that the HTTP client might have raised."""
        timeout = (self.http.__name__, "TimeoutException")
        return in_terms_of(error, timeout, timeout)

    def count_inner_retry(self, request: Any) -> None:
        """Count a request that the SDK retried by itself; warn about the first one."""
        if not self.retries or request.headers.get("x-stainless-retry-count", "0") in ("0", ""):
            return
        with self._lock:
            self.inner_retries += 1
            first, self._warned = not self._warned, True
        if first:
            text = (
                f"{type(self.client).__name__} retries by itself what {self.policy!r} retries as well, so attempts "
                "multiply: leave out max_retries where the client is used"
            )
            warnings.warn(text, InnerRetryWarning, stacklevel=outside(sys._getframe())[0])

    def note_no_usage(self, model: str | None, *, may_ask: bool) -> None:
        """
        Note a stream that has ended without its usage, at a spend limit: one line in the log, for the first.

        It is read by any task, so the warning is raised where the next stream is asked for.

        Args:
            model: The model.

            may_ask: True if the request could have asked for the usage.
        """
        with self._lock:
            first, self._is_usage_known = self._is_usage_known, False
            if not first:
                return
        remedy = (
            'give stream_options={"include_usage": True} to the request, and skip its last chunk, which has no choices'
            if may_ask
            else "the provider sends none, so give the limit reserve=... an amount"
        )
        text = f"a stream of {model!r} ended without its usage, so what was reserved for it counts as spent: {remedy}"
        log.say(log.WARNING, "%s: %s", self.policy.label, text, fields={"policy": self.policy.kind})
        self._without_usage = text

    def warn_of_no_usage(self) -> None:
        """Warn, once, at the request that follows a stream without its usage."""
        if self._without_usage is not None:
            text, self._without_usage = self._without_usage, None
            warnings.warn(text, UsageWarning, stacklevel=outside(sys._getframe())[0])

    def left_behind(self) -> None:
        """Count a stream that was dropped unclosed; called by finalisers, in any thread."""
        self.abandoned += 1
        log_abandoned(self.policy.label)


def _module_of(http: Any) -> ModuleType:
    """Return the module of an HTTP client, httpx or httpx2."""
    for cls in type(http).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("httpx", "httpx2") and cls.__name__ in ("AsyncClient", "Client"):
            return sys.modules[name]
    return reject("client", http, "a client whose HTTP client is one of httpx or httpx2", TypeError)
