include "strategies/timing_types.pxi"
