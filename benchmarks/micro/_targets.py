"""What the suite holds the library to: a figure that must be met and one to aim for."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["MANY", "TARGETS", "Target"]

MANY = 100_000
"""Keys, and pending timeouts, that targets are about: a quicker run with fewer of them is held against none."""


@attrs.frozen
class Target:
    """
    A limit, in *unit*; lower is better.

    *must* and *aim* are for Python 3.11; *later_must* and *later_aim* for 3.12 and later, where an awaitable that is
    not a coroutine must return its value through StopIteration.
    """

    what: str
    unit: str
    must: float
    aim: float | None = None
    later_must: float | None = None
    later_aim: float | None = None

    def limits(self, python: str) -> tuple[float, float | None]:
        """Return must and aim for a Python version such as "3.13.0"."""
        later = tuple(int(part) for part in python.split(".")[:2]) >= (3, 12)
        if later and self.later_must is not None:
            return self.later_must, self.later_aim
        return self.must, self.aim

    def mark(self, value: float, python: str) -> str:
        """Return "aim met", "must met" or "MISSED"."""
        must, aim = self.limits(python)
        if value > must:
            return "MISSED"
        return "aim met" if aim is not None and value <= aim else "must met"


TARGETS: Mapping[str, Target] = {
    "async_breaker": Target("async breaker on success", "W", 0.7, 0.4, 1.0, 0.65),
    "probabilistic_breaker": Target("async breaker on success, probabilistic", "W", 1.0, 0.7),
    "async_stack": Target("rate_limit + bulkhead + breaker, fused", "W", 1.0, 0.5, 1.3, 0.75),
    "async_adaptive": Target("adaptive_limit on success", "W", 1.0, 0.7),
    "adaptive_in_stack": Target("the fused stack of three and adaptive_limit", "W", 1.3, 0.8, 1.6, 1.05),
    "adaptive_rejection": Target("rejection by an adaptive limit", "ns", 600, 300),
    "adaptive_queue": Target("adaptive_limit: ns a grant, 10,000 queued waiters against 10", "x", 1.3, 1.0),
    "async_shedder": Target("load_shed on success", "W", 1.0, 0.7),
    "shedder_in_stack": Target("the fused stack of three and load_shed", "W", 1.3, 0.8, 1.6, 1.05),
    "shed_rejection": Target("rejection by a load shedder", "ns", 600, 300),
    "shed_queue": Target("load_shed: ns a grant, 10,000 queued waiters against 10", "x", 1.3, 1.0),
    "retry": Target("retry, first attempt succeeds", "W", 0.8, 0.6),
    "retried_tenacity": Target("retry of two attempts without sleep, against tenacity", "x", 0.1, 0.05),
    "retried_stamina": Target("retry of two attempts without sleep, against stamina", "x", 0.1, 0.05),
    "fallback": Target("fallback, primary succeeds", "W", 0.4, 0.2),
    "timeout": Target("timeout, call that never suspends", "W", 0.5, 0.3),
    "timeout_suspending": Target("timeout, call that suspends once, against asyncio.timeout", "x", 0.25, 0.15),
    "hedge": Target("hedge not fired, call that suspends once, against asyncio.timeout", "x", 0.5, 0.3),
    "whole_stack": Target("whole stack of 8, decorators", "W", 3.0, 1.0),
    "whole_stack_pipeline": Target("whole stack of 8, pipeline", "W", 3.0, 1.0),
    "whole_stack_standard": Target("whole stack of 8, standard()", "W", 3.0, 1.0),
    "sync_breaker": Target("sync breaker against an empty sync wrapper", "W", 1.2, 1.0),
    "rejection": Target("rejection raised and caught, sync", "ns", 600, 300),
    "try_call_rejected": Target("rejection through try_call", "ns", 200, 100),
    "histogram_record": Target("histogram: record from Python", "ns", 40, 25),
    "histogram_quantile": Target("histogram: quantile", "ns", 1000),
    "histogram_memory": Target("histogram: memory", "bytes", 12 * 1024),
    "histogram_error": Target("histogram: error, p50 to p99.99", "%", 0.8),
    "try_acquire": Target("TokenBucket.try_acquire() from Python", "ns", 60, 30),
    "breaker_memory": Target("one breaker, all included", "bytes", 16 * 1024, 4 * 1024),
    "import": Target("import resilio against import anyio, attrs", "x", 1.5, 1.1),
    "queue": Target("bulkhead: ns a grant, 10,000 queued waiters against 10", "x", 1.2, 1.0),
    "keyed_lookup": Target("keyed: lookup", "ns", 100, 60),
    "keyed_memory": Target("keyed: a breaker's key, beyond a bare breaker", "bytes", 250),
    "scrape": Target("scrape of 500 policies", "ms", 50, 25),
    "simulation": Target("a simulated call through three gates", "ns", 10_000, 3_333),
    "live_page": Target("live page: 500 policies, 10 viewers, of one processor", "%", 2.0, 1.0),
    **{
        f"throughput_{key}": Target(f"lost on the wall beside an empty {what}", "%", most)
        for key, what, most in (
            ("httpx", "transport of httpx, breaker", 4.0),
            ("httpx_standard", "transport of httpx, standard", 12.0),
            ("httpx2", "transport of httpx2, breaker", 4.0),
            ("httpx2_standard", "transport of httpx2, standard", 12.0),
            ("requests", "adapter of requests, breaker", 4.0),
            ("requests_standard", "adapter of requests, standard", 12.0),
            ("aiohttp", "middleware of aiohttp, breaker and bulkhead", 4.0),
            ("aiohttp_standard", "middleware of aiohttp, standard", 12.0),
            ("grpc", "interceptor of grpc.aio, breaker and bulkhead", 4.0),
            ("grpc_standard", "interceptor of grpc.aio, standard", 12.0),
            ("asgi", "middleware of ASGI, load_shed", 4.0),
            ("wsgi", "middleware of WSGI, load_shed", 4.0),
        )
    },
    "pending_timeouts": Target("timeout: ns to arm and disarm, 100,000 pending against 10", "x", 1.2, 1.0),
}
