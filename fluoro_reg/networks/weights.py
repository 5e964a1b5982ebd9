"""Weights files of all networks: tensors, and a header with a version, the CT's fingerprint and the reference view.

A network is trained for one patient, and its output looks just as plausible for another. The fingerprint of the CT in the
header prevents weights from being used with the wrong CT.
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
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.networks.safetensors_file import read_tensors

SEVERAL_CTS = "several CTs"  # in place of a fingerprint: the weights belong to no single patient


def read_weights(
    path: Path | str, kind: str, version: int, oldest: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a weights file of `version`, or of one since `oldest`.

    Raises:
        InputError: the file cannot be read, or is of another program, kind or version.
    """
    tensors, header = read_tensors(path, kind)
    if header.get("version") not in range(version if oldest is None else oldest, version + 1):
        raise InputError(
            f"{Path(path).name} has format version {header.get('version')}, but this program reads {version}; train again, or "
            "use the matching version of fluoro_reg"
        )
    return tensors, header


def check_same_ct(header: Mapping[str, Any], volume: CTVolume, name: str, command: str) -> None:
    """Check that weights were trained on this CT.

    Args:
        header: the header of the weights file.
        volume: the CT.
        name: the name of the weights file, for error messages.
        command: the subcommand of `fluoro-reg train` that makes such weights.

    Raises:
        InputError: the weights were trained on another CT, or on several.
    """
    if header.get("ct_fingerprint") == SEVERAL_CTS:
        raise InputError(
            f"{name} was trained on several CTs and is only a starting point; "
            f"train on this one with 'fluoro-reg train {command} --pretrained'"
        )
    if header.get("ct_fingerprint") != volume.fingerprint:
        raise InputError(
            f"{name} was trained on another CT; give that CT, or train on this one with 'fluoro-reg train {command}'"
        )


def load_weights_into(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Put the weights of the file `name` into a network, as float32.

    Raises:
        InputError: the weights do not fit the network, or are not finite.
    """
    try:
        network.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{name} does not hold the weights of the network that it names; copy it again") from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"{name} holds weights that are NaN or infinite; train again")


def load_pretrained_weights(
    network: nn.Module, options: Any, tensors: Mapping[str, Tensor], header: Mapping[str, Any], name: str, section: str
) -> None:
    """Put the weights of the file `name` into a network that is to be trained.

    Args:
        network: the network.
        options: its options, which those in the header must equal.
        tensors: the weights.
        header: the header of the weights file.
        name: the name of the weights file, for error messages.
        section: the section of the training's settings that holds `options`, for error messages.

    Raises:
        InputError: the weights are those of a network with other options, do not fit, or are not finite.
    """
    pretrained_options = from_mapping(type(options), header.get("network", {}), name)
    if pretrained_options != options:
        settings = ", ".join(f"{section}.{key}={value}" for key, value in to_mapping(pretrained_options).items())
        raise InputError(f"{name} holds a network with other settings; give the same with --set: {settings}")
    load_weights_into(network, tensors, name)


def reference_to_mapping(reference: ReferenceView) -> dict[str, Any]:
    """Return a reference view as values for JSON."""
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
    """Return the reference view of the file `name`; the inverse of `reference_to_mapping`.

    Raises:
        InputError: a value is missing or wrong.
    """
    try:
        intrinsics = CameraIntrinsics.from_k(
            int(content["width"]), int(content["height"]), content["k"], content["source_to_detector_mm"]
        )
        pose = RigidTransform.from_matrix(content["camera_from_patient"], f"the reference view of {name}")
        return ReferenceView(pose, torch.tensor(content["pivot"], dtype=torch.float64).reshape(3), intrinsics)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} lacks the reference view of its network; copy it again") from error
