"""What the weights files of all networks share: a version, the CT's fingerprint and the reference view in the header.

The header names the CT by its fingerprint, since a network knows one patient and answers for another with the same assurance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.networks.safetensors_file import read_tensors

SEVERAL_CTS = "several CTs"  # in place of a fingerprint: no one patient's weights, to begin a training from


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


def check_same_ct(header: Mapping[str, Any], volume: CTVolume, name: str, command: str) -> None:
    """`command` is the subcommand of `train` that makes such weights.

    Raises:
        InputError: the weights of the file `name` are another CT's.
    """
    if header.get("ct_fingerprint") == SEVERAL_CTS:
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


def reference_from_mapping(content: Any, name: str) -> ReferenceView:
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
