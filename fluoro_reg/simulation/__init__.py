"""Simulated X-rays with known poses. Nothing here is shared with `fluoro_reg.rendering`."""
