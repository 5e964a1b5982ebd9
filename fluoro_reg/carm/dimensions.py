"""Dimensions of the default C-arm: a mobile C-arm with a flat detector of 30 cm."""

DETECTOR_MM = 300.0  # width and height
SOURCE_TO_DETECTOR_MM = 1020.0
SOURCE_TO_OBJECT_MM = 700.0
FIELD_MM = DETECTOR_MM * SOURCE_TO_OBJECT_MM / SOURCE_TO_DETECTOR_MM  # width and height of what it sees of the patient
