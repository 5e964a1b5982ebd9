"""Damaged bags give frames or an InputError, and never another exception."""

from pathlib import Path

import pytest
from helpers.bag_messages import IMAGE_TOPIC, INFO_TOPIC, write_ros2

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_frames import CameraInfoChoice, read_bag_images

KINDS = [(kind, n) for n in range(3) for kind in ("image", "info")]
WIDTH = 8  # bytes that are overwritten, as long as the length of a record


@pytest.mark.parametrize(("storage", "step"), [("sqlite3", 397), ("mcap", 9)])
def test_overwritten_bytes_give_frames_or_an_input_error(tmp_path: Path, storage: str, step: int) -> None:
    (original,) = (path for path in write_ros2(tmp_path / "bag", KINDS, storage).iterdir() if path.suffix != ".yaml")
    content, outcomes = original.read_bytes(), {"read": 0, "refused": 0}
    file = tmp_path / f"damaged{original.suffix}"
    for position in range(0, len(content) - WIDTH, step):
        file.write_bytes(content[:position] + b"\xff" * WIDTH + content[position + WIDTH :])
        try:
            list(read_bag_images(file, IMAGE_TOPIC, INFO_TOPIC, CameraInfoChoice.STAMP, lambda sentence: None))
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5
