include "simulation/simulation_types.pxi"
