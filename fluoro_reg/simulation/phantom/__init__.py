"""A procedural pelvis phantom as a CT, built from geometric solids."""
