"""The weights of a trained regressor: half-precision numbers and, in the header, all that is needed to use them.

The header names the CT by its fingerprint, since a network knows one patient and answers for another with the same assurance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.regressor.heads import ReferenceView
from fluoro_reg.regressor.network import PoseRegressor, RegressorOptions
from fluoro_reg.regressor.safetensors_file import read_tensors, write_tensors

KIND = "weights of a pose regressor"
VERSION = 1


def save_regressor(path: Path | str, network: PoseRegressor, ct_fingerprint: str, notes: Mapping[str, Any]) -> None:
    """Writes a network for the CT of that fingerprint; `notes` (validation errors, settings of the training) are kept as said.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: tensor.half() for name, tensor in network.state_dict().items()}
    header = {
        "kind": KIND,
        "version": VERSION,
        "ct_fingerprint": ct_fingerprint,
        "network": to_mapping(network.options),
        "reference": reference_to_mapping(network.reference),
        "notes": dict(notes),
    }
    write_tensors(Path(path), tensors, header)


def load_regressor(path: Path | str, volume: CTVolume) -> PoseRegressor:
    """The network trained for this CT, in float32 on the CPU, ready to be used.

    Raises:
        InputError: an unreadable or foreign file, a later version's, another CT's weights, or damaged ones.
    """
    name = Path(path).name
    tensors, header = _read(path)
    if header.get("ct_fingerprint") != volume.fingerprint:
        raise InputError(
            f"{name} was trained on another CT; give that CT, or train on this one by 'fluoro-reg train regressor'"
        )
    network = PoseRegressor(
        from_mapping(RegressorOptions, header.get("network", {}), name), _reference(header.get("reference"), name)
    )
    try:
        network.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{name} does not hold the weights of the network that it names; copy it again") from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"{name} holds weights that are NaN or infinite; train again")
    return network.eval()


def trained_for(path: Path | str, volume: CTVolume) -> bool:
    """Whether the weights are those of this CT.

    Raises:
        InputError: as `check_weights`.
    """
    _, header = _read(path)
    return bool(header.get("ct_fingerprint") == volume.fingerprint)


def check_weights(path: Path | str) -> None:
    """Refuses what is wrong with weights whatever the CT is.

    Raises:
        InputError: an unreadable or foreign file, or a later version's.
    """
    _read(path)


def _read(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, header = read_tensors(path, KIND)
    if header.get("version") != VERSION:
        raise InputError(
            f"{Path(path).name} has format version {header.get('version')}, this program reads {VERSION}; train again, or use "
            "the matching version of fluoro_reg"
        )
    return tensors, header


def reference_to_mapping(reference: ReferenceView) -> dict[str, Any]:
    """For JSON."""
    camera = reference.intrinsics
    return {
        "camera_from_patient": reference.camera_from_patient.matrix().tolist(),
        "pivot": reference.pivot.tolist(),
        "width": camera.width,
        "height": camera.height,
        "k": camera.k,
        "source_to_detector_mm": camera.source_to_detector_mm,
    }


def _reference(content: Any, name: str) -> ReferenceView:
    try:
        intrinsics = CameraIntrinsics.from_k(
            int(content["width"]), int(content["height"]), content["k"], content["source_to_detector_mm"]
        )
        pose = RigidTransform.from_matrix(content["camera_from_patient"], f"the reference view of {name}")
        return ReferenceView(pose, torch.tensor(content["pivot"], dtype=torch.float64).reshape(3), intrinsics)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} lacks the view that its network refers to; copy it again") from error
