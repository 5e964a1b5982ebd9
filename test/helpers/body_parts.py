"""Four bodies cut out of a block of bone, and a fake tracker that answers with a known pose for each."""

from dataclasses import dataclass, field, replace

import torch

from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Outcome, RegistrationOptions, RegistrationResult
from fluoro_reg.registration.bodies.body import Body, make_bodies
from fluoro_reg.xray.image import XrayImage
from helpers.ros_bench import KNOWN_POSE, FakeTracker, block_ct

NAMES = ("pelvis", "femur_left", "femur_right", "L5")
FRAMES = {name: "pelvis_link" if name == "pelvis" else name for name in NAMES}
OUT_OF_FIELD = "out of the field"


def block_bodies() -> tuple[Body, ...]:
    """The block, of which three parts move on their own."""
    ct = block_ct()
    labels = torch.zeros(ct.attenuation.shape, dtype=torch.int32)
    for number in (1, 2, 3):
        labels[4:12, 4:12, 2 + 2 * number : 4 + 2 * number] = number
    rows = {name: {"labels": [number]} for number, name in enumerate(NAMES[1:], start=1)}
    config = bodies_from_mapping({"reference": "pelvis", "bodies": {"pelvis": {"frame": "pelvis_link"}, **rows}}, "block")
    return make_bodies(config, ct, LabelMap(labels, ct.patient_from_voxel), {}, RegistrationOptions(), "cpu")


def pose_of(name: str) -> RigidTransform:
    """The pose of a body in every image: the reference's, shifted along the patient's axes."""
    shift = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64) * NAMES.index(name)
    return KNOWN_POSE @ RigidTransform(torch.eye(3, dtype=torch.float64), shift)


@dataclass
class BodiesFakeTracker(FakeTracker):
    """Accepts all bodies but the rejected ones, in every image that is not blank."""

    rejected: set[str] = field(default_factory=set)

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult:
        found = super().update(xray, stamp_ns)
        if not found.accepted:
            return found
        bodies = {name: replace(found, camera_from_patient=pose_of(name)) for name in NAMES}
        for name in self.rejected:
            bodies[name] = replace(bodies[name], outcome=Outcome.REJECTED_POSE, reason=OUT_OF_FIELD)
        return replace(bodies["pelvis"], bodies=bodies)
