"""Mutated bags give frames or an InputError, and never another exception."""

import random
from pathlib import Path

import pytest
from helpers.bag_messages import IMAGE_TOPIC, INFO_TOPIC, write_ros2

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_frames import CameraInfoChoice, read_bag_images

KINDS = [(kind, n) for n in range(3) for kind in ("image", "info")]


def mutated(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 2, 8, 30])):
        position = rng.randrange(len(damaged))
        if rng.random() < 0.7:
            damaged[position] = rng.randrange(256)
        else:
            del damaged[position : position + rng.randrange(1, 60)]
    return bytes(damaged)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_mutated_bags_give_frames_or_an_input_error(tmp_path: Path, storage: str) -> None:
    (original,) = (path for path in write_ros2(tmp_path / "bag", KINDS, storage).iterdir() if path.suffix != ".yaml")
    rng, outcomes = random.Random(storage), {"read": 0, "refused": 0}
    file = tmp_path / f"damaged{original.suffix}"
    for _ in range(120):
        file.write_bytes(mutated(original.read_bytes(), rng))
        try:
            list(read_bag_images(file, IMAGE_TOPIC, INFO_TOPIC, CameraInfoChoice.STAMP, lambda sentence: None))
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5
