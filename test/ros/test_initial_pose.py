"""Initial poses from the topic `initialpose`."""

import pytest
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from helpers.ros_bench import KNOWN_POSE
from helpers.ros_probe import FIRST_STAMP

from fluoro_reg.ros import conversions

pytestmark = pytest.mark.ros


def initial_pose(frame_id):
    return conversions.pose_message(KNOWN_POSE, None, FIRST_STAMP, frame_id)


@pytest.mark.parametrize("frame_id", ["carm_optical", ""])
def test_a_pose_on_initialpose_is_the_initial_pose_of_the_next_frame(bench, frame_id):
    publisher = bench.probe.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
    bench.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(initial_pose(frame_id))
    bench.spin_for(0.2)
    bench.send_and_wait(FIRST_STAMP)
    assert len(bench.tracker.initial_poses) == 1
    torch.testing.assert_close(bench.tracker.initial_poses[0].matrix(), KNOWN_POSE.matrix())


@pytest.mark.parametrize("case", ["another frame", "no unit quaternion", "not finite"])
def test_an_unusable_initialpose_is_ignored(bench, case):
    message = initial_pose("table" if case == "another frame" else "carm_optical")
    if case == "no unit quaternion":
        message.pose.pose.orientation.w += 1.0
    if case == "not finite":
        message.pose.pose.position.x = float("nan")
    publisher = bench.probe.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
    bench.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(message)
    bench.spin_for(0.2)
    bench.send_and_wait(FIRST_STAMP)
    assert not bench.tracker.initial_poses
