"""The weights of a learned similarity, by the rules of the regressor's: safetensors, all settings, the CT's fingerprint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.learned.prost import ProST
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity
from fluoro_reg.learned.spherical import Spherical
from fluoro_reg.networks.safetensors_file import write_tensors
from fluoro_reg.networks.weights import (
    SEVERAL_CTS,
    check_same_ct,
    fill,
    read_weights,
    reference_from_mapping,
    reference_to_mapping,
)

KIND = "weights of a learned similarity"
VERSION = 2

# By the name that weights and methods use. Each is made of its `Options`, a reference view and the CT.
LEARNED: dict[str, type[AbstractLearnedSimilarity]] = {"prost": ProST, "spherical": Spherical}


def save_similarity(
    path: Path | str, network: AbstractLearnedSimilarity, ct_fingerprint: str, notes: Mapping[str, Any]
) -> None:
    """Writes a network for the CT of that fingerprint; `notes` (validation, settings of the training) are kept as said.

    Raises:
        OSError: the file cannot be written.
    """
    header = {
        "kind": KIND,
        "version": VERSION,
        "ct_fingerprint": ct_fingerprint,
        "similarity": next(name for name, kind in LEARNED.items() if isinstance(network, kind)),
        "network": to_mapping(network.options),
        "reference": reference_to_mapping(network.reference),
        "notes": dict(notes),
    }
    write_tensors(Path(path), network.state_dict(), header)


def load_similarity(path: Path | str, volume: CTVolume) -> AbstractLearnedSimilarity:
    """The similarity trained for this CT, or for several and so for any, on the CPU, ready to be used: no gradient reaches its
    weights. Of several CTs' the reference view is taken about the middle of this one's skeleton.

    Raises:
        InputError: an unreadable or foreign file, another version's, another CT's weights, or damaged ones.
    """
    name = Path(path).name
    tensors, header = read_weights(path, KIND, VERSION)
    reference = reference_from_mapping(header.get("reference"), name)
    if header.get("ct_fingerprint") == SEVERAL_CTS:
        reference = reference.about(default_aim_point(volume))
    else:
        check_same_ct(header, volume, name, "similarity")
    kind = LEARNED[_known(header, name)]
    options: Any = from_mapping(kind.Options, header.get("network", {}), name)
    network = kind(options, reference, volume)
    fill(network, tensors, name)
    return network.eval().requires_grad_(False)


def load_pretrained_similarity(path: Path | str, network: AbstractLearnedSimilarity) -> None:
    """Puts the weights of a similarity of any CT, or of several, into one that is to be trained.

    Raises:
        InputError: an unreadable or foreign file, another version's, or the weights of another kind of similarity or network.
    """
    name = Path(path).name
    tensors, header = read_weights(path, KIND, VERSION)
    if LEARNED[_known(header, name)] is not type(network):
        raise InputError(f"{name} holds weights of the similarity {header['similarity']}; begin from those of the same kind")
    options: Any = from_mapping(type(network).Options, header.get("network", {}), name)
    if options != network.options:
        said = ", ".join(f"{header['similarity']}.{key}={value}" for key, value in to_mapping(options).items())
        raise InputError(f"{name} holds a network of other settings; give the same by --set: {said}")
    fill(network, tensors, name)
    network.scale.fill_(1.0)


def similarity_kind(path: Path | str) -> str:
    """Which entry of `LEARNED` the weights are of; refuses what is wrong with them whatever the CT is.

    Raises:
        InputError: an unreadable or foreign file, or another version's.
    """
    _, header = read_weights(path, KIND, VERSION)
    return _known(header, Path(path).name)


def check_similarity(path: Path | str, kind: str) -> None:
    """Refuses weights that are not of the entry `kind` of `LEARNED`, and what `similarity_kind` refuses.

    Raises:
        InputError: as said.
    """
    if (other := similarity_kind(path)) != kind:
        raise InputError(f"{Path(path).name} holds weights of the similarity {other}, not of {kind}; give those")


def _known(header: Mapping[str, Any], name: str) -> str:
    kind = header.get("similarity")
    if kind not in LEARNED:
        raise InputError(f"{name} holds a similarity that this program does not know; train again")
    return str(kind)
