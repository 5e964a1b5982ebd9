"""A second X-ray of a simulated case from another direction, as input for `register --second-view`.

The files are image2.png and view.json. The camera is that of the case, and the relative pose of the two X-rays is exact.
"""

from math import radians

import numpy as np
import torch
from jaxtyping import UInt16
from PIL import Image

from fluoro_reg.formats.cases import RegistrationCase
from fluoro_reg.formats.views import ViewEntries, write_view
from fluoro_reg.geometry import RigidTransform, retract


def second_view_pose(case: RegistrationCase, angle_deg: float) -> RigidTransform:
    """Return `camera_from_patient` after a rotation of the C-arm about the patient's long axis through the landmarks."""
    twist = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, radians(angle_deg)], dtype=torch.float64)
    return retract(case.truth, twist, case.landmarks_patient.mean(0))


def write_second_view(case: RegistrationCase, pose: RigidTransform, pixels: UInt16[np.ndarray, "height width"]) -> None:
    """Add the X-ray that the case's camera took at `pose` (`camera_from_patient`) to the case's folder."""
    Image.fromarray(pixels).save(case.folder / "image2.png")
    entries = ViewEntries("image2.png", "camera.json", case.intensity.value)
    write_view(case.folder / "view.json", entries, pose @ case.truth.inverse())
