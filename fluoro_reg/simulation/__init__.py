"""Simulated X-rays with known poses, computed independently of `fluoro_reg.rendering`."""
