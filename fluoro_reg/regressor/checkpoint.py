"""The weights of a trained regressor: half-precision numbers and, in the header, all that is needed to use them.

The header names the CT by its fingerprint, since a network knows one patient and answers for another with the same assurance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.regressor.heads import ReferenceView
from fluoro_reg.regressor.network import PoseRegressor, RegressorOptions
from fluoro_reg.regressor.safetensors_file import read_tensors, write_tensors

KIND = "weights of a pose regressor"
VERSION = 1
SEVERAL = "several CTs"  # in place of a fingerprint: no one patient's weights, to begin a training from


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
    refuse_another_ct(header, volume, name, "regressor")
    network = PoseRegressor(
        from_mapping(RegressorOptions, header.get("network", {}), name), reference_of(header.get("reference"), name)
    )
    fill(network, tensors, name)
    return network.eval()


def begin_from(path: Path | str, network: PoseRegressor) -> None:
    """Puts the weights of a regressor of any CT, or of several, into a network that is to be trained.

    Raises:
        InputError: an unreadable or foreign file, another version's, or the weights of another kind of network.
    """
    name = Path(path).name
    tensors, header = _read(path)
    options = from_mapping(RegressorOptions, header.get("network", {}), name)
    if options != network.options:
        said = ", ".join(f"network.{key}={value}" for key, value in to_mapping(options).items())
        raise InputError(f"{name} holds a network of other settings; give the same by --set: {said}")
    fill(network, tensors, name)


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
    return read_weights(path, KIND, VERSION)


def read_weights(path: Path | str, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of weights of a kind.

    Raises:
        InputError: an unreadable or foreign file, or another version's.
    """
    tensors, header = read_tensors(path, kind)
    if header.get("version") != version:
        raise InputError(
            f"{Path(path).name} has format version {header.get('version')}, this program reads {version}; train again, or use "
            "the matching version of fluoro_reg"
        )
    return tensors, header


def refuse_another_ct(header: Mapping[str, Any], volume: CTVolume, name: str, command: str) -> None:
    """`command` is the subcommand of `train` that makes such weights.

    Raises:
        InputError: the weights of the file `name` are another CT's.
    """
    if header.get("ct_fingerprint") == SEVERAL:
        raise InputError(
            f"{name} was trained on several CTs, to begin from; train on this one by 'fluoro-reg train {command} --pretrained'"
        )
    if header.get("ct_fingerprint") != volume.fingerprint:
        raise InputError(
            f"{name} was trained on another CT; give that CT, or train on this one by 'fluoro-reg train {command}'"
        )


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Puts the weights of the file `name` into a network, as float32.

    Raises:
        InputError: they are another network's, or no numbers.
    """
    try:
        network.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{name} does not hold the weights of the network that it names; copy it again") from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"{name} holds weights that are NaN or infinite; train again")


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


def reference_of(content: Any, name: str) -> ReferenceView:
    """The inverse of `reference_to_mapping`, for the file `name`.

    Raises:
        InputError: something is missing or wrong.
    """
    try:
        intrinsics = CameraIntrinsics.from_k(
            int(content["width"]), int(content["height"]), content["k"], content["source_to_detector_mm"]
        )
        pose = RigidTransform.from_matrix(content["camera_from_patient"], f"the reference view of {name}")
        return ReferenceView(pose, torch.tensor(content["pivot"], dtype=torch.float64).reshape(3), intrinsics)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} lacks the view that its network refers to; copy it again") from error
