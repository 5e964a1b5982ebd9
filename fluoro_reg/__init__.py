"""2-D/3-D registration of C-arm fluoroscopy to CT: the pose of a patient in each X-ray image, checked before it is published.

The public names are loaded when they are first used, so that importing the package loads neither torch nor ROS. The conventions
of frames, units and transforms are in `fluoro_reg.geometry`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluoro_reg.ct.label_map import read_label_map
    from fluoro_reg.ct.reader import read_ct
    from fluoro_reg.ct.volume import CTVolume
    from fluoro_reg.errors import InputError
    from fluoro_reg.formats.bodies import read_bodies
    from fluoro_reg.formats.cameras import read_camera, write_camera
    from fluoro_reg.formats.poses import read_pose, write_pose
    from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
    from fluoro_reg.registration import (
        GateOptions,
        Hypothesis,
        Method,
        Outcome,
        PosePrior,
        Registrar,
        RegistrationOptions,
        RegistrationResult,
        Tracker,
        load_method,
        load_methods,
    )
    from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
    from fluoro_reg.xray.image import Intensity, XrayImage
    from fluoro_reg.xray.reader import read_xray
    from fluoro_reg.xray.view import CalibratedXray

__version__ = "0.2.0"

_MODULE_OF = {
    "BodiesRegistrar": "registration.bodies.registrar",
    "CTVolume": "ct.volume",
    "CalibratedXray": "xray.view",
    "CameraIntrinsics": "geometry",
    "GateOptions": "registration",
    "Hypothesis": "registration",
    "InputError": "errors",
    "Intensity": "xray.image",
    "Method": "registration",
    "Outcome": "registration",
    "PosePrior": "registration",
    "Registrar": "registration",
    "RegistrationOptions": "registration",
    "RegistrationResult": "registration",
    "RigidTransform": "geometry",
    "Tracker": "registration",
    "XrayImage": "xray.image",
    "load_method": "registration",
    "load_methods": "registration",
    "read_bodies": "formats.bodies",
    "read_camera": "formats.cameras",
    "read_ct": "ct.reader",
    "read_label_map": "ct.label_map",
    "read_pose": "formats.poses",
    "read_xray": "xray.reader",
    "write_camera": "formats.cameras",
    "write_pose": "formats.poses",
}

__all__ = [
    "BodiesRegistrar",
    "CTVolume",
    "CalibratedXray",
    "CameraIntrinsics",
    "GateOptions",
    "Hypothesis",
    "InputError",
    "Intensity",
    "Method",
    "Outcome",
    "PosePrior",
    "Registrar",
    "RegistrationOptions",
    "RegistrationResult",
    "RigidTransform",
    "Tracker",
    "XrayImage",
    "load_method",
    "load_methods",
    "read_bodies",
    "read_camera",
    "read_ct",
    "read_label_map",
    "read_pose",
    "read_xray",
    "write_camera",
    "write_pose",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fluoro_reg' has no attribute '{name}'")
    return getattr(importlib.import_module(f"fluoro_reg.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
