"""The panels of the Grafana dashboard, from top to bottom: title, unit, PromQL by legend, description."""

from __future__ import annotations

from resilio.metrics._grafana import BREAKER, OPEN, Graph, Number, Row, by, rate, series

__all__ = ["PANELS"]

_NOT_CLOSED = 'state=~"open|half_open|forced_open"'
_NOT_WELL = 'state!="well"'
_OVERLOADED = 'state="overloaded"'


def _share_in_window(metric: str) -> str:
    return f"{by('policy', series(metric))} / ({by('policy', series('window_calls'))} > 0)"


def _left(limit: str, used: str) -> str:
    return f"{by('policy, unit', series(limit), 'max')} - {by('policy, unit', series(used), 'max')}"


def _latency(quantile: float) -> str:
    return f"histogram_quantile({quantile}, {by('le, policy', rate('call_duration_seconds_bucket'))})"


PANELS: tuple[Row | Number | Graph, ...] = (
    Row("Now"),
    Number(
        "Breakers not closed",
        "short",
        {"": f"sum({series('state', BREAKER, _NOT_CLOSED)}) or vector(0)"},
        "Open, probing or forced open.",
        red_from=1,
    ),
    Number("Overloaded shedders", "short", {"": f"sum({series('state', _OVERLOADED)}) or vector(0)"}, red_from=1),
    Number(
        "Calls",
        "reqps",
        {"": f"sum({rate('calls_total')})"},
        "Through all policies; a call through three of them counts three times.",
    ),
    Number(
        "Rejected",
        "percentunit",
        {"": f"sum({rate('rejected_total')}) / sum({rate('calls_total')})"},
        "Share of the calls that asked.",
    ),
    Number("In flight", "short", {"": f"sum({series('inflight')})"}),
    Number("Waiting", "short", {"": f"sum({series('queued')})"}),
    Row("Calls"),
    Graph("Calls by outcome", "reqps", {"{{outcome}}": by("outcome", rate("calls_total"))}, stacked=True),
    Graph(
        "Rejections by reason",
        "reqps",
        {"{{policy}} {{reason}}": by("kind, policy, reason", rate("rejected_total"))},
        "Why calls were rejected.",
        stacked=True,
    ),
    Graph(
        "Failures",
        "percentunit",
        {
            "{{policy}}": by("policy", rate("calls_total", 'outcome="failure"', BREAKER))
            + " / "
            + by("policy", rate("calls_total", 'outcome=~"success|failure"', BREAKER))
        },
        "Share of successes and failures.",
    ),
    Graph("Latency, p50", "s", {"{{policy}}": _latency(0.5)}, "Of successes and failures."),
    Graph("Latency, p99", "s", {"{{policy}}": _latency(0.99)}, "Of successes and failures."),
    Graph(
        "Where the time goes",
        "s",
        {"{{segment}}": by("segment", rate("call_seconds_total", 'segment!="wasted"'))},
        "Seconds a second, by segment; what hedges did in vain is not among them.",
        stacked=True,
    ),
    Row("Circuit breakers"),
    Graph(
        "Not closed",
        "short",
        {"{{policy}} {{state}}": by("policy, state", series("state", BREAKER, _NOT_CLOSED))},
        "Breakers that are open, half open or forced open.",
    ),
    Graph(
        "Openings",
        "short",
        {"{{policy}}": by("policy", f"increase({series('state_changes_total', BREAKER, OPEN)}[$__rate_interval])")},
        "How often each has opened.",
        style="bars",
    ),
    Graph(
        "Failures in the window",
        "percentunit",
        {"{{policy}} failed": _share_in_window("window_failures"), "{{policy}} slow": _share_in_window("window_slow")},
        "What the breaker itself sees, and slow calls.",
    ),
    Row("Limits, queues and shedding"),
    Graph(
        "In flight and limit",
        "short",
        {
            "{{policy}}": f"{by('kind, policy', series('inflight'))} and on (kind, policy) {series('limit')}",
            "{{policy}} limit": by("kind, policy", series("limit")),
        },
    ),
    Graph(
        "Queues",
        "short",
        {
            "{{policy}}": by("kind, policy", series("queued")),
            "{{policy}} limit": by("kind, policy", series("queue_limit")) + " > 0",
        },
        "Calls that wait, and how many may.",
    ),
    Graph(
        "Rejected by priority",
        "reqps",
        {"{{policy}} {{priority}}": by("policy, priority", rate("rejected_by_priority_total"))},
        "What a load shedder lost, the least important first.",
        stacked=True,
    ),
    Graph(
        "Tokens",
        "short",
        {"{{policy}} {{unit}}": by("policy, unit", series("tokens"), "min")},
        "Of rate limits; below zero: a debt.",
        minimum=None,
    ),
    Graph(
        "Money left",
        "short",
        {"{{policy}} {{unit}}": _left("spend_limit", "spend_used")},
        "Of spend limits, in this period; below zero: an overspend.",
        minimum=None,
    ),
    Graph(
        "Cost of calls",
        "short",
        {"{{policy}} {{model}} {{part}}": by("policy, model, part", rate("cost_total"))},
        "A second, in the currency of the limit: answers, retries, hedges, and attempts without a result.",
        stacked=True,
    ),
    Graph("Learned limits", "short", {"{{policy}}": by("policy", series("learned_limit"))}, "Of adaptive limits."),
    Graph(
        "Shadow mode",
        "reqps",
        {"{{kind}} {{policy}}": by("kind, policy", rate("would_reject_total"))},
        "What enforcement would have rejected.",
    ),
    Row("Retries, hedges, timeouts, fallbacks"),
    Graph(
        "Load added by retries",
        "percentunit",
        {"{{policy}}": by("policy", rate("retries_total")) + " / " + by("policy", rate("calls_total", 'kind="retry"'))},
        "Attempts after the first, for each call.",
    ),
    Graph(
        "Not tried again",
        "reqps",
        {"{{policy}} {{reason}}": by("policy, reason", rate("retry_stopped_total"))},
        "Failed calls, by the reason.",
        stacked=True,
    ),
    Graph(
        "Retry budgets",
        "short",
        {
            "{{policy}}": by("policy", series("retry_budget"), "min"),
            "{{policy}} most": by("policy", series("retry_budget_limit"), "max"),
        },
        "Tokens that pay for retries, and the most that can be saved.",
    ),
    Graph(
        "Hedges",
        "reqps",
        {
            "{{policy}} started": by("policy", rate("hedges_total")),
            "{{policy}} won": by("policy", rate("hedge_wins_total")),
        },
        "Copies started, and those that won.",
    ),
    Graph(
        "Timeouts by clock",
        "reqps",
        {"{{policy}} {{clock}}": by("policy, clock", rate("timeouts_total"))},
        "Which time was up.",
        stacked=True,
    ),
    Graph(
        "Fallbacks",
        "reqps",
        {
            "{{policy}} {{target}} {{outcome}}": by("policy, target, outcome", rate("fallback_targets_total")),
            "{{policy}} {{result}}": by("policy, result", rate("fallbacks_total")),
        },
        "Where failed calls went, and which of those went well.",
    ),
    Row("Pools"),
    Graph(
        "Calls by endpoint",
        "reqps",
        {"{{policy}} {{endpoint}}": by("policy, endpoint", rate("endpoint_calls_total"))},
        "Where the calls of a pool went.",
        stacked=True,
    ),
    Graph(
        "Endpoints that are not well",
        "short",
        {"{{policy}} {{endpoint}} {{state}}": by("policy, endpoint, state", series("endpoint_state", _NOT_WELL))},
        "Ejected, probing, warming or drained.",
    ),
    Graph(
        "Latency by endpoint",
        "s",
        {"{{policy}} {{endpoint}}": by("policy, endpoint", series("endpoint_latency_seconds"), "max")},
        "Peak averages, by which endpoints are chosen.",
    ),
    Graph(
        "Levels",
        "percentunit",
        {"{{policy}} {{level}}": by("policy, level", series("level_share"), "max")},
        "The share of the calls that each level gets; above 0 for level 1: the nearest endpoints are not enough.",
    ),
    Row("Housekeeping"),
    Graph(
        "Workers that share",
        "short",
        {
            "{{policy}}": by("kind, policy", series("shared_peers"), "max"),
            "{{policy}} alone: {{reason}}": by("kind, policy, reason", series("shared_degraded")),
        },
        "Processes of a host with one state of a policy, and those that have their own for now.",
    ),
    Graph(
        "Store of a fleet",
        "short",
        {
            "{{policy}} exchanges/s": by("kind, policy", rate("shared_trips_total")),
            "{{policy}} lost/s": by("kind, policy", rate("shared_trips_lost_total")),
            "{{policy}} seconds old": by("kind, policy", series("shared_age_seconds"), "max"),
        },
        "What policies of several hosts exchange; older than a second: the store is away or slow.",
    ),
    Graph(
        "In flight in a host, and limit",
        "short",
        {
            "{{policy}}": by("kind, policy", series("shared_permits_used"), "max"),
            "{{policy}} limit": by("kind, policy", series("shared_limit"), "max"),
        },
        "Permits that all processes of a host hold together; of several hosts the fullest.",
    ),
    Graph(
        "Keys",
        "short",
        {
            "{{policy}}": by("policy", series("keys")),
            "{{policy}} overflow/s": by("policy", rate("keys_overflowed_total")),
        },
        "Of keyed policies.",
    ),
    Graph(
        "Abandoned streams",
        "cps",
        {"{{policy}}": by("policy", rate("abandoned_total"))},
        "Dropped without being closed: they held their permits until they were collected.",
    ),
    Graph(
        "Errors of exporters, listeners and functions",
        "cps",
        {
            "exporters": "sum(rate(resilio_exporter_errors_total[$__rate_interval]))",
            "listeners": "sum(rate(resilio_listener_errors_total[$__rate_interval]))",
            "{{policy}} {{function}}": by("policy, function", rate("function_errors_total")),
            "{{header}} {{reason}}": by("header, reason", "rate(resilio_ignored_headers_total[$__rate_interval])"),
        },
        "None of them fails a call.",
    ),
)
