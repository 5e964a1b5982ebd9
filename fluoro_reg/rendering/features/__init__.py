"""Projection of feature volumes (ProST) and its derivatives."""
