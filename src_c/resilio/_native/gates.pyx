"""Gates: parts of a policy that admit a call or reject it without waiting for I/O."""

include "gates/host.pxi"
include "gates/breaker.pxi"
include "gates/bulkhead.pxi"
include "gates/limiter.pxi"
include "gates/limiter_asks.pxi"
include "gates/limiter_wants.pxi"
include "gates/limiter_tie.pxi"
include "gates/courier.pxi"
include "gates/bulkhead_slots.pxi"
include "gates/adaptive.pxi"
include "gates/shedder.pxi"

__all__ = [
    "PATIENT", "AdaptiveGate", "Amounts", "BreakerGate", "BulkheadGate", "CourierEntry", "CourierTurns", "LeaseTie",
    "Leases", "LimitAnswerNumbers", "LimitAskNumbers", "LimiterGate", "ShedderGate", "Slots", "StoreProblem",
    "TieState", "Wants", "WindowAskNumbers", "answers_of", "command_of",
]
