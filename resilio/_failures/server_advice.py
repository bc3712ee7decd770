"""
The table of what servers and their clients advise about another attempt: which, where, in which unit, and its meaning.

These rows are read by `retry_after_of` and `should_retry_of`, by the limits of models, and by the judgement of errors
of AWS and of databases. The page "What servers advise" of the docs is made from them. Rows of one place are in the
order of their precedence.

Sources: RFC 9110, section 10.2.3; draft-ietf-httpapi-ratelimit-headers; gRPC proposal A6, "Pushback";
google/rpc/error_details.proto; MongoDB's specification "Client Backpressure"; PostgreSQL 17, appendix A; the retry
rules in the clients of AWS, Azure, OpenAI, Anthropic and Stripe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

__all__ = [
    "FORBIDS",
    "HEADERS",
    "RETRY",
    "RETRY_INFO",
    "ROWS",
    "UNTIL",
    "WAIT",
    "Advice",
    "Meaning",
    "Place",
    "Unit",
    "codes_of",
    "rows",
]

Place = Literal["attribute", "header", "body", "result", "metadata", "label", "code"]
Meaning = Literal["wait", "wait until", "retry", "do not retry"]
Unit = Literal[
    "",
    "seconds",
    "milliseconds",
    "HTTP date",
    "RFC 3339",
    "seconds, or a time of day",
    "a duration like 6m0s",
    "limits with r and t, or remaining and reset",
    "RetryInfo",
    "baseBackoffMS of the reply, else 100 ms",
    "true",
    "false",
    "no number",
]
WAIT: Meaning = "wait"
UNTIL: Meaning = "wait until"
RETRY: Meaning = "retry"
FORBIDS: Meaning = "do not retry"
RETRY_INFO = "google.rpc.RetryInfo"


@attrs.frozen
class Advice:
    """
    A row.

    Attributes:
        who: Servers that send it.

        where: The place: an attribute of the exception, a header, the body of a 429 or 503, the structured content of
            a tool's result, metadata of gRPC, a label of MongoDB, or a code of an error.

        name: Its name there, headers in lower case.

        unit: The form of its value.

        meaning: Wait for a time, or until one; retry: nothing was done; or do not retry.

        left: The header that must be 0 for this row to count: the rest of the limit.

        without: The label that must be missing for this row to count.

        of: The unit of a limit of models.
    """

    who: str
    where: Place
    name: str
    unit: Unit
    meaning: Meaning
    left: str = ""
    without: str = ""
    of: str = ""


def _limits_of_models() -> Iterator[Advice]:
    for of in ("requests", "tokens"):
        reset, left = f"x-ratelimit-reset-{of}", f"x-ratelimit-remaining-{of}"
        yield Advice("OpenAI, Groq", "header", reset, "a duration like 6m0s", UNTIL, left, of=of)
    for of in ("requests", "tokens", "input_tokens", "output_tokens"):
        limit = f"anthropic-ratelimit-{of.replace('_', '-')}"
        yield Advice("Anthropic", "header", f"{limit}-reset", "RFC 3339", UNTIL, f"{limit}-remaining", of=of)


_THROTTLED = (
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
)
"""Codes that mean 429, whatever the status; AWS sends most of them with a 400."""
_NOTHING_DONE = ("08001", "08004", "53300", "57P03", "40001", "40P01")
"""States after which nothing is done: there was no session, or the transaction is rolled back as a whole."""

ROWS = (
    Advice("errors of any client", "attribute", "retry_after", "seconds", WAIT),
    Advice("errors of any client", "attribute", "retry_after", "HTTP date", UNTIL),
    Advice("OpenAI, Azure", "header", "retry-after-ms", "milliseconds", WAIT),
    Advice("Azure Cosmos DB", "header", "x-ms-retry-after-ms", "milliseconds", WAIT),
    Advice("AWS", "header", "x-amz-retry-after", "milliseconds", WAIT),
    Advice("any server", "header", "retry-after", "seconds", WAIT),
    Advice("any server", "header", "retry-after", "HTTP date", UNTIL),
    Advice("any server", "header", "ratelimit", "limits with r and t, or remaining and reset", UNTIL),
    Advice("any server", "header", "ratelimit-reset", "seconds, or a time of day", UNTIL, "ratelimit-remaining"),
    Advice("Discord", "header", "x-ratelimit-reset-after", "seconds", UNTIL, "x-ratelimit-remaining"),
    Advice("GitHub", "header", "x-ratelimit-reset", "seconds, or a time of day", UNTIL, "x-ratelimit-remaining"),
    Advice("X", "header", "x-rate-limit-reset", "seconds, or a time of day", UNTIL, "x-rate-limit-remaining"),
    *_limits_of_models(),
    Advice("Google", "body", RETRY_INFO, "RetryInfo", WAIT),
    Advice("MCP servers under guard", "result", "retry_after", "seconds", WAIT),
    Advice("gRPC", "metadata", "grpc-retry-pushback-ms", "milliseconds", WAIT),
    Advice("Google", "metadata", "grpc-status-details-bin", "RetryInfo", WAIT),
    Advice("MongoDB", "label", "SystemOverloadedError", "baseBackoffMS of the reply, else 100 ms", WAIT),
    Advice("OpenAI, Anthropic", "header", "x-should-retry", "true", RETRY),
    Advice("OpenAI, Anthropic", "header", "x-should-retry", "false", FORBIDS),
    Advice("Stripe", "header", "stripe-should-retry", "true", RETRY),
    Advice("Stripe", "header", "stripe-should-retry", "false", FORBIDS),
    Advice("gRPC", "metadata", "grpc-retry-pushback-ms", "no number", FORBIDS),
    Advice("MongoDB", "label", "SystemOverloadedError", "", FORBIDS, without="RetryableError"),
    Advice("MongoDB", "label", "RetryableError", "", RETRY),
    *(Advice("AWS", "code", code, "", RETRY) for code in _THROTTLED),
    *(Advice("SQL databases", "code", state, "", RETRY) for state in _NOTHING_DONE),
)
HEADERS = frozenset(name for row in ROWS if row.where == "header" for name in (row.name, row.left) if name) | {"date"}
"""Names of the headers that the rows read, and `date`, from which times of day are measured."""


def rows(where: Place, *meanings: Meaning) -> tuple[Advice, ...]:
    """Return the rows of a place with one of these meanings, in order."""
    return tuple(row for row in ROWS if row.where == where and row.meaning in meanings)


def codes_of(who: str) -> frozenset[str]:
    """Return the codes after which nothing is done, of one kind of server."""
    return frozenset(row.name for row in rows("code", RETRY) if row.who == who)
