"""The tree of transforms: lookups agree with tf2, if it is installed, and refuse what tf2 would invent."""

import threading
import time

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation, Slerp

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.ros import conversions
from fluoro_reg.ros.frame_tree import FrameTree

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000


def pose_of(seed: int) -> RigidTransform:
    generator = torch.Generator().manual_seed(seed)
    turn, shift = (torch.randn(3, dtype=torch.float64, generator=generator) for _ in range(2))
    return RigidTransform(so3.exp(turn), 300 * shift)


def edge(parent: str, child: str, stamp: int, seed: int) -> TransformStamped:
    return conversions.transform_message(pose_of(seed), stamp, parent, child)


def robot_tree(tree: FrameTree) -> list[tuple[TransformStamped, bool]]:
    """Add base -> arm (10 Hz), base -> rail (10 Hz, between), rail -> carm (static), and a leading slash."""
    messages = [(edge("rail", "carm", 0, 1), True)]
    for n in range(5):
        messages.append((edge("base", "arm", SECOND + n * SECOND // 10, 10 + n), False))
        messages.append((edge("/base", "/rail", SECOND + n * SECOND // 10 + SECOND // 20, 20 + n), False))
    for message, is_static in messages:
        tree.add(message, is_static)
    return messages


def test_a_lookup_between_two_stamps_turns_at_a_constant_rate():
    tree = FrameTree(0.2)
    robot_tree(tree)
    found = tree.lookup("base", "arm", SECOND + 3 * SECOND // 100, 0.0)
    first, second = (pose_of(seed).matrix().numpy() for seed in (10, 11))
    rotation = Slerp([0, 1], Rotation.from_matrix([first[:3, :3], second[:3, :3]]))(0.3).as_matrix()
    np.testing.assert_allclose(found.rotation.numpy(), rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation.numpy(), 0.7 * first[:3, 3] + 0.3 * second[:3, 3], atol=1e-6)


def test_a_lookup_at_a_stamp_is_not_interpolated_and_passes_through_static_edges():
    tree = FrameTree(0.2)
    robot_tree(tree)
    found = tree.lookup("base", "carm", SECOND + SECOND // 20, 0.0)
    torch.testing.assert_close(found.matrix(), (pose_of(20) @ pose_of(1)).matrix(), atol=1e-6, rtol=0)
    back = tree.lookup("carm", "base", SECOND + SECOND // 20, 0.0)
    torch.testing.assert_close((found @ back).matrix(), torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_lookups_agree_with_tf2_where_it_is_installed():
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2 is not among the ROS wheels; source an installed ROS 2")
    from rclpy.time import Time

    tree, buffer = FrameTree(0.2), tf2_ros.Buffer()
    for message, is_static in robot_tree(tree):
        (buffer.set_transform_static if is_static else buffer.set_transform)(message, "test")
    for stamp in np.linspace(1.05, 1.4, 36):
        at = round(float(stamp) * SECOND)
        for target, source in (("arm", "carm"), ("carm", "base"), ("base", "carm")):
            theirs = conversions.transform_from_message(buffer.lookup_transform(target, source, Time(nanoseconds=at)))
            ours = tree.lookup(target, source, at, 0.0)
            torch.testing.assert_close(ours.matrix(), theirs.matrix(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fixed", ["", "base"])
def test_frames_at_two_stamps_are_compared_in_what_stays_still(fixed):
    tree = FrameTree(0.2)
    robot_tree(tree)
    arm_stamp, carm_stamp = SECOND, SECOND + SECOND // 20
    found = tree.lookup_between(("arm", arm_stamp), ("carm", carm_stamp), fixed, 0.0)
    expected = pose_of(10).inverse() @ pose_of(20) @ pose_of(1)
    torch.testing.assert_close(found.matrix(), expected.matrix(), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="the transform to 'arm' on /tf ends"):
        tree.lookup_between(("arm", 2 * SECOND), ("carm", carm_stamp), fixed, 0.0)


@pytest.mark.parametrize(
    ("stamp", "target", "sentence"),
    [
        (0.5, "base", "the transform to 'arm' on /tf begins 0.500 s after the image's stamp"),
        (1.5, "base", "the transform to 'arm' on /tf ends 0.100 s before the image's stamp"),
        (1.2, "table", "tf2 does not connect 'table' and 'arm'"),
    ],
)
def test_a_lookup_that_would_extrapolate_is_refused(stamp, target, sentence):
    tree = FrameTree(0.2)
    robot_tree(tree)
    with pytest.raises(InputError, match=sentence):
        tree.lookup(target, "arm", round(stamp * SECOND), 0.0)


def test_a_lookup_in_a_long_gap_is_refused():
    tree = FrameTree(0.2)
    for stamp in (SECOND, 2 * SECOND):
        tree.add(edge("base", "arm", stamp, 1), False)
    with pytest.raises(InputError, match=r"a gap of 1.000 s at the image's stamp.* raise tf.maximum_gap"):
        tree.lookup("base", "arm", SECOND + SECOND // 2, 0.0)


def test_a_frame_with_two_parents_is_refused():
    tree = FrameTree(0.2)
    for n, parent in enumerate(("base", "table", "base")):
        tree.add(edge(parent, "arm", SECOND + n * SECOND // 10, 1), False)
    with pytest.raises(InputError, match="'arm' has several parents on tf2, base and table"):
        tree.lookup("base", "arm", SECOND + SECOND // 20, 0.0)


def test_a_loop_is_refused():
    tree = FrameTree(0.2)
    tree.add(edge("a", "b", SECOND, 1), False)
    tree.add(edge("b", "a", SECOND, 1), False)
    with pytest.raises(InputError, match="form a loop on tf2"):
        tree.lookup("c", "a", SECOND, 0.0)


def test_a_lookup_waits_for_a_transform_that_arrives_late():
    tree = FrameTree(0.2)
    tree.add(edge("base", "arm", SECOND, 1), False)
    late = edge("base", "arm", SECOND + SECOND // 10, 2)
    timer = threading.Timer(0.2, lambda: tree.add(late, False))
    timer.start()
    begin = time.monotonic()
    found = tree.lookup("base", "arm", SECOND + SECOND // 10, 5.0)
    assert 0.1 < time.monotonic() - begin < 4.0
    torch.testing.assert_close(found.matrix(), pose_of(2).matrix(), atol=1e-6, rtol=0)


def test_transforms_expire_and_repeated_stamps_are_dropped():
    tree = FrameTree(0.2)
    for stamp, seed in ((1, 1), (2, 2), (2, 3), (11, 4), (12, 5), (1, 6)):
        tree.add(edge("base", "arm", stamp * SECOND, seed), False)
    torch.testing.assert_close(tree.lookup("base", "arm", 2 * SECOND, 0.0).matrix(), pose_of(2).matrix(), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match=r"begins 1\.000 s after"):
        tree.lookup("base", "arm", SECOND, 0.0)


def test_only_static_transforms_survive_when_time_goes_back():
    tree = FrameTree(0.2)
    robot_tree(tree)
    tree.forget()
    tree.lookup("rail", "carm", SECOND, 0.0)
    with pytest.raises(InputError, match="does not connect"):
        tree.lookup("base", "arm", SECOND, 0.0)
