"""DICOM CT series: which slices belong together, where they lie, and what their pixels mean."""
