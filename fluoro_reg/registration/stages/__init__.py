"""The steps of a registration, from a coarse search to the last optimiser: scales, masks, objectives, the solver."""
