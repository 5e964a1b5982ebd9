"""The arguments that `render.py` and `accuracy.py` have in common."""

import argparse
from pathlib import Path

import torch

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.rendering import resolve_device
from render_bench.contenders import PEERS, installed_peers
from render_bench.scene import Scene, body, make_scene

QUICK_SIZE, SIZE = 64, 256


def common_options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help=f"voxels a side of the made-up body (default {SIZE}; quick: {QUICK_SIZE})")
    parser.add_argument("--detector", type=int, help="pixels a side")
    parser.add_argument("--ct", help="a CT instead of the made-up body")
    parser.add_argument("--peers", help="nanodrr,diffdrr or none (default: those that are installed)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--quick", action="store_true", help="small, and few repeats")
    parser.add_argument("--plot", type=Path, help="write a PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser


def size_of(arguments: argparse.Namespace) -> int:
    return arguments.size or (QUICK_SIZE if arguments.quick else SIZE)


def scene_of(arguments: argparse.Namespace, detector: int) -> Scene:
    """The scene that is asked for.

    Raises:
        InputError: no readable CT, or numbers that make no scene.
    """
    if min(size_of(arguments), detector) < 8:
        raise InputError("--size and --detector must be 8 or more")
    return make_scene(read_ct(arguments.ct) if arguments.ct else body(size_of(arguments)), detector)


def device_of(arguments: argparse.Namespace) -> str:
    """Raises: InputError: cuda is asked for and absent."""
    return resolve_device(arguments.device) if arguments.device else "cuda" if torch.cuda.is_available() else "cpu"


def peers_of(arguments: argparse.Namespace) -> list[str]:
    """Raises: InputError: an unknown peer, or one that is not installed."""
    if arguments.peers is None:
        return installed_peers()
    asked = [] if arguments.peers == "none" else arguments.peers.split(",")
    for name in asked:
        if name not in PEERS:
            raise InputError(f"--peers takes {','.join(PEERS)} or none, got '{name}'")
        if name not in installed_peers():
            raise InputError(f"the peer {name} is not installed; benchmarks/README.md says how")
    return asked
