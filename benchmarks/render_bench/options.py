"""The common arguments of `render.py` and `accuracy.py`."""

import argparse
from pathlib import Path

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.rendering import resolve_device
from render_bench.contenders import PEERS, installed_peers
from render_bench.scene import Scene, body, make_scene

QUICK_SIZE, SIZE = 64, 256


def common_options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help=f"voxels per side of the synthetic body (default {SIZE}; quick: {QUICK_SIZE})")
    parser.add_argument("--detector", type=int, help="pixels per side")
    parser.add_argument("--ct", help="a CT instead of the synthetic body")
    parser.add_argument("--peers", help="nanodrr,diffdrr or none (default: those that are installed)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if CUDA and Triton are present, else cpu")
    parser.add_argument("--quick", action="store_true", help="small images and few repetitions")
    parser.add_argument("--plot", type=Path, help="write a PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


def size_of(arguments: argparse.Namespace) -> int:
    return arguments.size or (QUICK_SIZE if arguments.quick else SIZE)


def scene_of(arguments: argparse.Namespace, detector: int) -> Scene:
    """Return the requested scene.

    Raises:
        InputError: an unreadable CT, or a size that is too small.
    """
    if min(size_of(arguments), detector) < 8:
        raise InputError("--size and --detector must be 8 or more")
    return make_scene(read_ct(arguments.ct) if arguments.ct else body(size_of(arguments)), detector)


def device_of(arguments: argparse.Namespace) -> str:
    """Return the requested device, or else the fastest one.

    Raises:
        InputError: cuda without a CUDA device.
    """
    return resolve_device(arguments.device or "auto")


def peers_of(arguments: argparse.Namespace) -> list[str]:
    """Return the requested peers, or else those that are installed.

    Raises:
        InputError: an unknown peer, or one that is not installed.
    """
    if arguments.peers is None:
        return installed_peers()
    requested = [] if arguments.peers == "none" else arguments.peers.split(",")
    for name in requested:
        if name not in PEERS:
            raise InputError(f"--peers takes {','.join(PEERS)} or none, got '{name}'")
        if name not in installed_peers():
            raise InputError(f"the peer {name} is not installed; benchmarks/README.md explains how to install it")
    return requested
