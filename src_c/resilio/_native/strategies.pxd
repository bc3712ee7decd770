include "strategies/timing.pxd"
