"""X-rays of the same, unmoved patient with known relative poses of their cameras."""

from dataclasses import dataclass

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class CalibratedXray:
    """An X-ray and the pose of its camera.

    The reference is any frame that does not move between the exposures: that of the first camera (whose transform is then the
    identity), or that of a tracker.
    """

    image: XrayImage
    camera_from_reference: RigidTransform
