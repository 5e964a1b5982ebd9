"""Faults of single frames and requests: each leaves one node as it was, and the next good frame is accepted."""

import re
import time
from collections.abc import Callable

import pytest
from helpers.faulty_world import SECOND, World
from helpers.ros_probe import FRAME_NS, SIZE, K, Probe, camera_info, image
from helpers.ros_processes import RosProcess, fake_node
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

pytestmark = [pytest.mark.ros, pytest.mark.faults]


@pytest.fixture(scope="module")
def shared():
    """One node that takes all faults of single frames, one after the other."""
    world = World(RosProcess(fake_node("-p", "autostart:=true", "-p", "camera_info_timeout:=1.0")), Probe())
    world.probe.wait_until_connected(settle_s=0.5)
    world.accept_one()
    yield world
    world.probe.close()
    world.node.stop()


def changed(message, **values):
    for name, value in values.items():
        setattr(message, name, value)
    return message


def info_of_size(stamp: int, size: int):
    return changed(camera_info(stamp), width=size, height=size)


# A frame: (name, image of a stamp, CameraInfo of a stamp, what ~/result says); '' means accepted.
FRAMES: list[tuple[str, Callable[[int], Image], Callable[[int], object], str]] = [
    ("blank image", lambda s: image(s, blank=True), camera_info, "the image is blank"),
    ("no data", lambda s: changed(image(s), data=[]), camera_info, "contains 0 bytes instead of 64 rows"),
    (
        "half of the data",
        lambda s: changed(image(s), data=image(s).data[: SIZE * SIZE]),
        camera_info,
        "contains 4096 bytes instead of",
    ),
    ("step too small", lambda s: changed(image(s), step=1), camera_info, "step"),
    ("size 0", lambda s: changed(image(s), width=0, height=0, step=0, data=[]), camera_info, "."),
    ("unknown encoding", lambda s: changed(image(s), encoding="bayer_rggb8"), camera_info, "encoding"),
    ("K is zero", image, lambda s: changed(camera_info(s), k=[0.0] * 9), "K"),
    ("K holds NaN", image, lambda s: changed(camera_info(s), k=[float("nan"), *K[1:]]), "K must contain nine finite numbers"),
    ("K changes", image, lambda s: changed(camera_info(s), k=[2 * K[0], *K[1:]]), ""),
    ("CameraInfo of another size", image, lambda s: info_of_size(s, SIZE // 2), "camera|size"),
    ("frame_id empty", lambda s: image(s, frame_id=""), camera_info, "frame_id"),
    ("frame_id with a slash", lambda s: image(s, frame_id="/carm_optical"), camera_info, ""),
    ("frame_id is the patient's", lambda s: image(s, frame_id="patient"), camera_info, "as is frames.patient"),
]


@pytest.mark.parametrize(("name", "make_image", "make_info", "says"), FRAMES, ids=[row[0] for row in FRAMES])
def test_a_faulty_frame_is_rejected_alone(shared, name, make_image, make_info, says, rows):
    stamp, before = shared.next_stamp(), len(shared.probe.results())
    shared.publish(make_image(stamp), make_info(stamp))
    reason = shared.wait_for_result(before + 1)
    shared.probe.spin_for(0.2)
    if says:
        assert re.search(says, reason), reason
        assert stamp not in shared.stamps_on_tf()
        assert shared.probe.results()[-1]["accepted"] == "false"
    else:
        assert stamp in shared.stamps_on_tf(), reason
    shared.accept_one()
    rows.append((name, "nothing" if says else "the pose", reason, "the next good frame is accepted"))


def test_a_change_of_size_is_followed(shared, rows):
    size, stamp, before = 2 * SIZE, shared.next_stamp(), len(shared.probe.results())
    pixels = list(range(256)) * (2 * size * size // 256)
    shared.publish(changed(image(stamp), width=size, height=size, step=2 * size, data=pixels), info_of_size(stamp, size))
    reason = shared.wait_for_result(before + 1)
    shared.probe.spin_until(lambda: stamp in shared.stamps_on_tf())
    shared.accept_one()
    rows.append(("size of image and CameraInfo changes", "the pose", reason, "the next good frame is accepted"))


STAMPS = [
    ("stamp 0", lambda world: 0, "no stamp"),
    ("stamp repeated", lambda world: world.stamp, "the stamp equals that of the previous frame"),
    ("stamp before the last one", lambda world: world.stamp - FRAME_NS // 2, "older than that of an earlier frame"),
    ("stamp an hour ahead", lambda world: time.time_ns() + 3600 * SECOND, "further in the future than maximum_image_ahead"),
]


@pytest.mark.parametrize(("name", "stamp_of", "says"), STAMPS, ids=[row[0] for row in STAMPS])
def test_a_faulty_stamp_is_rejected_alone(shared, name, stamp_of, says, rows):
    before, published = len(shared.probe.results()), len(shared.stamps_on_tf())
    stamp = stamp_of(shared)
    shared.publish(image(stamp), camera_info(stamp))
    reason = shared.wait_for_result(before + 1)
    shared.probe.spin_for(0.2)
    assert says in reason
    assert len(shared.stamps_on_tf()) == published
    shared.accept_one()
    rows.append((name, "nothing", reason, "the next good frame is accepted"))


def test_images_and_infos_without_each_other_are_reported(shared, rows):
    for name, kwargs, says in (
        ("images without CameraInfo", {"message": True}, "has no CameraInfo on"),
        ("CameraInfo without images", {"message": False}, "no image on"),
    ):
        begin = time.monotonic()
        while says not in (message := shared.probe.diagnostics("input").message):
            assert time.monotonic() - begin < 10
            stamp = shared.next_stamp()
            shared.publish(image(stamp) if kwargs["message"] else None, None if kwargs["message"] else camera_info(stamp))
        rows.append((name, "nothing", message, "the next pair is accepted"))
        shared.accept_one()


def test_a_burst_of_images_drops_the_older_ones_and_ends(shared, rows):
    before = len(shared.probe.results())
    stamps = [shared.next_stamp() for _ in range(300)]
    for stamp in stamps:
        shared.publish(image(stamp), camera_info(stamp))
    shared.probe.spin_for(2.0)
    published = [stamp for stamp in shared.stamps_on_tf() if stamp >= stamps[0]]
    assert published == sorted(set(published))
    shared.accept_one()
    rows.append(
        (
            "300 images at once",
            "increasing stamps",
            f"{len(shared.probe.results()) - before} results",
            "the next one is accepted",
        )
    )


def test_a_storm_of_parameters_does_not_disturb(shared, rows):
    for n in range(100):
        value = Parameter("gate.minimum_similarity", value=0.3 + n / 1000).to_parameter_msg()
        bad = Parameter("gate.minimum_similarity", value=7.0).to_parameter_msg()
        for message, success in ((value, True), (bad, False)):
            request = SetParametersAtomically.Request(parameters=[message])
            assert shared.probe.call(SetParametersAtomically, "set_parameters_atomically", request).result.successful is success
        if n % 20 == 0:
            shared.accept_one()
    shared.accept_one()
    rows.append(("200 changes of a parameter, half of them wrong", "the poses", "the wrong ones are refused", "goes on"))


def test_services_at_the_wrong_time_answer(shared, rows):
    assert shared.probe.call(SetBool, "enable", SetBool.Request(data=False)).success
    response = shared.probe.call(Trigger, "save_debug")
    assert not response.success
    shared.probe.spin_until(lambda: "disabled" in shared.probe.diagnostics("registration").message)
    message = shared.probe.diagnostics("registration").message
    assert shared.probe.call(SetBool, "enable", SetBool.Request(data=True)).success
    shared.accept_one()
    rows.append(("disabled by ~/enable", "nothing", message, "accepted after it is enabled"))
    rows.append(("~/save_debug without a folder", "-", response.message, "-"))
