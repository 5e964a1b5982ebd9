"""A pelvis as a CT, made from solids: a patient who is nobody."""
