"""An X-ray among several of the same, unmoved patient."""

from dataclasses import dataclass

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class CalibratedXray:
    """An X-ray image and the pose of its camera.

    The reference is any frame that does not move between the exposures: the first camera's (whose transform is then the
    identity), or the frame of a tracker.
    """

    image: XrayImage
    camera_from_reference: RigidTransform
