"""The C-arm: where it is pointed, the range of its views, and poses drawn from it."""
