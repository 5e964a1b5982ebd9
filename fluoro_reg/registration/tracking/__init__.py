"""Tracking: from one frame to the next by prediction, a fused pass over rays and pixels, and a table of states."""
