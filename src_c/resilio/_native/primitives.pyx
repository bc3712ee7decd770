"""Building blocks: token bucket, latency histogram, windows, limit laws, retry budget."""

include "primitives/primitives.pxi"
include "primitives/laws.pxi"

__all__ = ["LAWS", "LatencyHistogram", "Law", "OutcomeWindow", "TokenBucket", "kind_of"]
