"""Execution engines of an evaluation: this process, several local processes, or a Ray cluster."""
