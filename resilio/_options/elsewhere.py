"""Names that other libraries give to options, and what to write here instead."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["advice"]

_OF_OTHERS = {
    "after": "delay hedge_after hedging_delay wait",
    "attempts": (
        "max_attempts max_retries max_retry_attempts max_tries num_retries retries retry_count stop times tries"
    ),
    "backoff": (
        "backoff_factor backoff_max backoff_type delay factor initial_delay interval interval_function jitter "
        "max_delay max_value min_delay use_jitter wait wait_duration wait_exp_base wait_gen wait_initial wait_jitter "
        "wait_max wait_strategy"
    ),
    "ceiling": "max_limit maximum",
    "closing_probes": "recovery_threshold success_threshold",
    "consecutive": "fail_max failure_count failure_threshold failures threshold",
    "deadline": "max_time seconds time_limit total total_timeout",
    "default": "default_value fallback_result fallback_value value",
    "failed_if": (
        "outcome_predicate predicate record_failure_predicate record_result_predicate result_predicate retry_if_result "
        "retry_on_result retry_on_result_predicate"
    ),
    "failure_rate": "error_rate error_threshold_percentage failure_rate_threshold failure_ratio",
    "floor": "min_limit minimum",
    "handler": "fallback_action fallback_function fallback_method",
    "idempotent": "is_idempotent safe",
    "ignore": "abort_on abort_when exclude giveup ignore_exceptions ignored_exceptions skip",
    "max_concurrent": (
        "capacity limit max_concurrency max_concurrent_calls max_parallelization max_workers permit_limit permits size"
    ),
    "max_hedges": "attempts max_attempts max_hedged_attempts",
    "max_queued": "max_capacity max_queue max_queue_size max_queuing_actions queue_limit queue_size",
    "max_retry_after": "respect_retry_after retry_after_max",
    "max_wait": "max_wait_duration max_wait_time timeout_duration wait_timeout",
    "min_calls": "minimum_calls minimum_number_of_calls minimum_throughput request_volume_threshold volume_threshold",
    "on": (
        "error_types exception exception_types exceptions expected_exception failed_when handle on_error on_exception "
        "record_exceptions retry retry_exceptions retry_if retry_on retry_on_exception should_handle"
    ),
    "open_for": (
        "break_duration cooldown delay duration_of_break recovery_time_secs recovery_timeout reset_timeout "
        "sleep_window timeout timeout_duration ttl wait_duration_in_open_state"
    ),
    "probe_lease": "max_wait_duration_in_half_open_state",
    "probes": "half_open_max_calls max_half_open_calls permitted_number_of_calls_in_half_open_state",
    "rates": (
        "calls every interval limit limit_for_period limit_refresh_period max_calls max_executions max_rate per "
        "per_time_secs period rate rate_limit seconds time_period times window"
    ),
    "slow_call": "slow_call_duration_threshold",
    "slow_rate": "slow_call_rate_threshold",
    "start": "initial_limit limit",
    "total": "duration limit max_time seconds timeout timeout_duration timeout_secs",
    "window": ("rolling_window sampling_duration sliding_window sliding_window_size sliding_window_type window_size"),
}
"""Names of others by the option that they mean; one that stands at several means the first that a function has."""

_BY_HAND = {"rates": "did you mean 'rates'? write a rate like \"100/s\", which rate_limit takes by position"}
_COUNTS_ALL = "did you mean 'attempts'? it counts the first attempt too, so three retries are attempts=4"
_A_SHARE = "a share, so 50 % are 0.5"
_EVENTS = "for a callback use on_event of the policy, or resilio.events.subscribe"
_AROUND = "for a limit over all attempts put deadline(seconds) around it"
_NOTES = {
    "attempts": dict.fromkeys(
        ("max_retries", "max_retry_attempts", "num_retries", "retries", "retry_count"), _COUNTS_ALL
    ),
    "failure_rate": dict.fromkeys(
        ("error_threshold_percentage", "failure_rate_threshold"), f"did you mean 'failure_rate'? it is {_A_SHARE}"
    ),
    "slow_rate": {"slow_call_rate_threshold": f"did you mean 'slow_rate'? it is {_A_SHARE}"},
}
"""More about a name of others than the option that it means, by that option."""

_NONE_HERE = {
    "after_attempt": _EVENTS,
    "before": _EVENTS,
    "before_sleep": _EVENTS,
    "fallback_function": "put fallback(handler=...) around it",
    "listeners": _EVENTS,
    "max_time": _AROUND,
    "on_backoff": _EVENTS,
    "on_giveup": _EVENTS,
    "on_open": _EVENTS,
    "on_opened": _EVENTS,
    "on_retry": _EVENTS,
    "on_state_change": _EVENTS,
    "reraise": "leave it out: the last exception is always raised as it is",
    "retry_error_callback": "put fallback(handler=...) around it",
    "state_storage": "leave it out: the state is in memory",
    "storage": "leave it out: the state is in memory",
    "timeout": _AROUND,
}
"""Advice about options that no function here has, or not this one."""


def advice(name: str, known: Collection[str]) -> str | None:
    """
    Return what to write in place of an option of another library; None if the name is not known.

    Args:
        name: The option.

        known: The options that exist.
    """
    for ours, theirs in _OF_OTHERS.items():
        if ours in known and name in theirs.split():
            return _BY_HAND.get(ours) or _NOTES.get(ours, {}).get(name) or f"did you mean {ours!r}?"
    return _NONE_HERE.get(name)
