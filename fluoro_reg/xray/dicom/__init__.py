"""X-rays in DICOM: pixels, geometry, shutters and frame times."""
