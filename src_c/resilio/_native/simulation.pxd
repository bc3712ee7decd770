include "simulation/simulation.pxd"
