"""The renderer for CPUs."""
