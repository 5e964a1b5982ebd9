"""The renderer for GPUs."""
