"""The weights of a trained regressor: half-precision numbers and, in the header, all that is needed to use them.

The header names the CT by its fingerprint, since a network knows one patient and answers for another with the same assurance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.networks.safetensors_file import write_tensors
from fluoro_reg.networks.weights import check_same_ct, fill, read_weights, reference_from_mapping, reference_to_mapping
from fluoro_reg.regressor.network import PoseRegressor, RegressorOptions

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
    check_same_ct(header, volume, name, "regressor")
    network = PoseRegressor(
        from_mapping(RegressorOptions, header.get("network", {}), name), reference_from_mapping(header.get("reference"), name)
    )
    fill(network, tensors, name)
    return network.eval()


def load_pretrained(path: Path | str, network: PoseRegressor) -> None:
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
