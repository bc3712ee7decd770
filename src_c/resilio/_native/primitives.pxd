include "primitives/primitives_types.pxi"
include "primitives/laws_types.pxi"
