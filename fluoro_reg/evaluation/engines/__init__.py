"""Where an evaluation computes: in this process, in several, or on a Ray cluster."""
