"""Weights files of learned similarities: tensors, and a header with everything that is needed to use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluoro_reg.carm.aim import default_aim_point
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.config import from_mapping, to_mapping
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.learned.prost import ProST
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity
from fluoro_reg.learned.spherical import Spherical
from fluoro_reg.networks.safetensors_file import write_tensors
from fluoro_reg.networks.seen_views import range_with_spread
from fluoro_reg.networks.weights import (
    SEVERAL_CTS,
    check_same_ct,
    load_pretrained_weights,
    load_weights_into,
    read_weights,
    reference_from_mapping,
    reference_to_mapping,
)

KIND = "weights of a learned similarity"
VERSION = 4
_OLDEST = 3  # did not mirror views from the other side, and stated its views only as notes

# By the name that weights files and methods use.
LEARNED_SIMILARITIES: dict[str, type[AbstractLearnedSimilarity]] = {"prost": ProST, "spherical": Spherical}


def save_similarity(
    path: Path | str, network: AbstractLearnedSimilarity, ct_fingerprint: str, notes: Mapping[str, Any]
) -> None:
    """Write a similarity.

    Args:
        path: the file to write.
        network: the similarity.
        ct_fingerprint: the fingerprint of the CT that it was trained on, or `SEVERAL_CTS`.
        notes: validation errors and settings of the training, which are stored unchanged.

    Raises:
        OSError: the file cannot be written.
    """
    header = {
        "kind": KIND,
        "version": VERSION,
        "ct_fingerprint": ct_fingerprint,
        "similarity": next(name for name, kind in LEARNED_SIMILARITIES.items() if isinstance(network, kind)),
        "network": to_mapping(network.options),
        "reference": reference_to_mapping(network.reference),
        "seen": None if network.seen is None else to_mapping(network.seen),
        "mirrors": network.mirrors,
        "notes": dict(notes),
    }
    write_tensors(Path(path), network.state_dict(), header)


def load_similarity(path: Path | str, volume: CTVolume) -> AbstractLearnedSimilarity:
    """Return the similarity trained on this CT, or on several CTs, which can be used with any.

    It is on the CPU, in evaluation mode, and its weights need no gradient. The reference view of a similarity that was trained
    on several CTs is placed at the middle of this CT's skeleton.

    Raises:
        InputError: the file cannot be read, is of another program, version or CT, or is damaged.
    """
    name = Path(path).name
    tensors, header = read_weights(path, KIND, VERSION, _OLDEST)
    reference = reference_from_mapping(header.get("reference"), name)
    if header.get("ct_fingerprint") == SEVERAL_CTS:
        reference = reference.with_pivot(default_aim_point(volume))
    else:
        check_same_ct(header, volume, name, "similarity")
    kind = LEARNED_SIMILARITIES[_kind_in(header, name)]
    options: Any = from_mapping(kind.Options, header.get("network", {}), name)
    network = kind(options, reference, volume)
    load_weights_into(network, tensors, name)
    network.seen, network.mirrors = _seen_in(header, name)
    return network.eval().requires_grad_(False)


def load_pretrained_similarity(path: Path | str, network: AbstractLearnedSimilarity) -> None:
    """Put the weights of a similarity of any CT, or of several, into one that is to be trained.

    Raises:
        InputError: the file cannot be read, is of another program or version, or holds another kind of similarity or one with
            other options.
    """
    name = Path(path).name
    tensors, header = read_weights(path, KIND, VERSION, _OLDEST)
    kind = _kind_in(header, name)
    if LEARNED_SIMILARITIES[kind] is not type(network):
        raise InputError(f"{name} holds weights of the similarity {kind}; give pretrained weights of the same kind")
    load_pretrained_weights(network, network.options, tensors, header, name, kind)
    network.scale.fill_(1.0)


def similarity_kind(path: Path | str) -> str:
    """Return which entry of `LEARNED_SIMILARITIES` a weights file holds.

    Raises:
        InputError: the file cannot be read, or is of another program or version.
    """
    _, header = read_weights(path, KIND, VERSION, _OLDEST)
    return _kind_in(header, Path(path).name)


def check_similarity(path: Path | str, kind: str) -> None:
    """Check that a weights file holds the entry `kind` of `LEARNED_SIMILARITIES`.

    Raises:
        InputError: the file holds another similarity, or `similarity_kind` raises an error.
    """
    if (other := similarity_kind(path)) != kind:
        raise InputError(f"{Path(path).name} holds weights of the similarity {other}, not of {kind}; give the right weights")


def _seen_in(header: Mapping[str, Any], name: str) -> tuple[CarmRange | None, bool]:
    """The range of the poses in the training, if the file states it, and whether views from the other side are mirrored."""
    if header["version"] == VERSION:
        stated = header.get("seen")
        return None if stated is None else from_mapping(CarmRange, stated, name), bool(header.get("mirrors"))
    notes = header.get("notes", {})
    if "range" not in notes or "training" not in notes:
        return None, True
    carm, pairs = from_mapping(CarmRange, notes["range"], name), notes["training"]["pairs"]
    is_middle = pairs["around"] == "middle"
    seen = range_with_spread(carm, is_middle, pairs["rotation_deg"], pairs["translation_mm"], pairs["depth_mm"])
    return seen, is_middle or len(carm.views) == 1


def _kind_in(header: Mapping[str, Any], name: str) -> str:
    kind = header.get("similarity")
    if kind not in LEARNED_SIMILARITIES:
        raise InputError(f"{name} holds a similarity that this program does not know; train again")
    return str(kind)
