"""`NominalView`: what a header says about the position of the C-arm, which is where a search begins and never the pose."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NominalView:
    """The stated position of the detector relative to the patient.

    Attributes:
        primary_deg: From right (-) to left (+) anterior oblique; 0 has the detector in front of the patient.
        secondary_deg: From caudal (-) to cranial (+).
        source_to_patient_mm: Distance from the focal spot to the table, the isocentre or the skin; None if it is not stated.
    """

    primary_deg: float
    secondary_deg: float
    source_to_patient_mm: float | None = None
