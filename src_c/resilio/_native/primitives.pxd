include "primitives/primitives.pxd"
include "primitives/laws.pxd"
