"""A second X-ray of a simulated case, from the side: what `register --view` is tried with.

image2.png  view.json (its camera is the case's; where it stood to the first is exact)
"""

from math import radians

import numpy as np
import torch
from jaxtyping import UInt16
from PIL import Image

from fluoro_reg.formats.cases import RegistrationCase
from fluoro_reg.formats.views import ViewEntries, write_view
from fluoro_reg.geometry import RigidTransform, retract


def turned(case: RegistrationCase, angle_deg: float) -> RigidTransform:
    """`camera_from_patient` of the C-arm turned about the patient's long axis through the landmarks."""
    turn = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, radians(angle_deg)], dtype=torch.float64)
    return retract(case.truth, turn, case.landmarks_patient.mean(0))


def write_second_view(case: RegistrationCase, side: RigidTransform, pixels: UInt16[np.ndarray, "height width"]) -> None:
    """Adds the X-ray that the case's camera took from `side` to the case's folder."""
    Image.fromarray(pixels).save(case.folder / "image2.png")
    entries = ViewEntries("image2.png", "camera.json", case.intensity.value)
    write_view(case.folder / "view.json", entries, side @ case.truth.inverse())
