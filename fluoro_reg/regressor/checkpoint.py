"""Weights files of the pose regressor: half-precision tensors, and a header with everything that is needed to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.networks.safetensors_file import write_tensors
from fluoro_reg.networks.seen_views import seen_views
from fluoro_reg.networks.weights import (
    check_same_ct,
    load_pretrained_weights,
    load_weights_into,
    read_weights,
    reference_from_mapping,
    reference_to_mapping,
)
from fluoro_reg.regressor.network import PoseRegressor, RegressorOptions

KIND = "weights of a pose regressor"
VERSION = 1


def save_regressor(path: Path | str, network: PoseRegressor, ct_fingerprint: str, notes: Mapping[str, Any]) -> None:
    """Write a network.

    Args:
        path: the file to write.
        network: the network.
        ct_fingerprint: the fingerprint of the CT that it was trained on.
        notes: validation errors and settings of the training, which are stored unchanged; `range` is that of its views.

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
    """Return the network trained on this CT, in float32 on the CPU and in evaluation mode.

    Raises:
        InputError: the file cannot be read, is of another program, version or CT, or is damaged.
    """
    name = Path(path).name
    tensors, header = _read(path)
    check_same_ct(header, volume, name, "regressor")
    network = PoseRegressor(
        from_mapping(RegressorOptions, header.get("network", {}), name), reference_from_mapping(header.get("reference"), name)
    )
    load_weights_into(network, tensors, name)
    network.seen = seen_views(header.get("notes", {}).get("range"), "the regressor", network.reference.pivot, name)
    return network.eval()


def load_pretrained(path: Path | str, network: PoseRegressor) -> None:
    """Put the weights of a regressor of any CT, or of several, into a network that is to be trained.

    Raises:
        InputError: the file cannot be read, is of another program or version, or holds a network with other options.
    """
    tensors, header = _read(path)
    load_pretrained_weights(network, network.options, tensors, header, Path(path).name, "network")


def is_trained_on(path: Path | str, volume: CTVolume) -> bool:
    """Return whether the weights belong to this CT.

    Raises:
        InputError: as `check_regressor`.
    """
    _, header = _read(path)
    return bool(header.get("ct_fingerprint") == volume.fingerprint)


def check_regressor(path: Path | str) -> None:
    """Check everything about a weights file that does not depend on the CT.

    Raises:
        InputError: the file cannot be read, or is of another program or version.
    """
    _read(path)


def _read(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return read_weights(path, KIND, VERSION)
