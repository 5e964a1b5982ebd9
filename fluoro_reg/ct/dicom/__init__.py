"""DICOM CT series: grouping of slices into series, their geometry, and their pixels in HU."""
