"""Building blocks: token bucket, latency histogram, windows, limit laws, retry budget."""

include "primitives/primitives.pxi"
include "primitives/laws.pxi"
