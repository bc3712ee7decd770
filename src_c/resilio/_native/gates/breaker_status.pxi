"""What a circuit breaker shows of its state, part of breaker.pxi."""

cdef double _passing_share(rs_breaker *b, int64_t now_ns) noexcept nogil:
    """The average share of calls that pass now."""
    if b.state != BREAKER_CLOSED and b.state != THROTTLING:
        return b.passing
    cdef double share = 1.0 if b.state == BREAKER_CLOSED else _share(b)
    return share * _ramp_parts(b, b.ramp_end_ns - now_ns) / WHOLE if b.ramp_end_ns > now_ns else share


cdef object _retry_after(rs_breaker *b, int64_t now_ns):
    """Seconds until a probe may pass; None unless open, forced open for a time, or half-open and refused."""
    if b.state == OPEN or (b.state == HALF_OPEN and now_ns < b.until_ns):
        return max(0, b.until_ns - now_ns) / 1e9
    return max(0, b.forced_ns - now_ns) / 1e9 if b.state == FORCED_OPEN and b.forced_ns else None


cdef dict _status(rs_breaker *b, rs_breaker_view *host, rs_counters *counters, int64_t now_ns):
    return {
        "state": _NAMES[b.state],
        "generation": b.generation,
        "host_state": _NAMES[host.state] if host.is_shared else None,
        "host_window_calls": host.calls if host.is_shared else None,
        "host_window_failures": host.failures if host.is_shared else None,
        "window_calls": b.window.total,
        "window_failures": b.window.failed,
        "window_slow": b.window.slow,
        "consecutive": b.in_a_row,
        "open_for": b.open_ns / 1e9,
        "retry_after": _retry_after(b, now_ns),
        "share": _passing_share(b, now_ns),
        "overdue": b.overdue.overdue,
        "ramping": b.ramp_end_ns > now_ns,
        "probes": b.leases,
        "probes_succeeded": b.proven,
        "probes_lapsed": b.lapsed,
        "stale": b.stale,
        "calls": counters.calls,
        "successes": counters.successes,
        "failures": counters.failures,
        "ignored": counters.ignored,
        "rejected": counters.rejected,
        "would_reject": counters.would_reject,
        "cancelled": counters.cancelled,
        "abandoned": counters.abandoned,
        "refused": counters.refused,
        "inflight": counters.inflight,
    }
