"""Common parts of `render.py` and `accuracy.py`: scene, exact oracle, contenders, timing, memory and report."""
