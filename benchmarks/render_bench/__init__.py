"""What `render.py` and `accuracy.py` share: the scene, the exact oracle, the contenders, timing, memory and the report."""
