"""The bridge to OpenIGTLink, heard by a real client: accepted poses in Slicer's axes, and the node's word on them."""

import importlib.util
import socket

import numpy as np
import pytest
from helpers.ros_bench import KNOWN_POSE, PROJECT
from helpers.ros_probe import FIRST_STAMP, FRAME_NS

pyigtl = pytest.importorskip("pyigtl")
pytestmark = pytest.mark.ros


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("openigtlink_bridge", PROJECT / "examples" / "openigtlink_bridge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def said(listener) -> str:
    message = listener.wait_for_message("PoseStatus", timeout=0)
    return "" if message is None else message.string


def test_a_client_hears_accepted_poses_in_ras_and_nothing_of_rejected_ones(example, make_bench, monkeypatch):
    port, bench = free_port(), make_bench()
    serve = pyigtl.OpenIGTLinkServer
    monkeypatch.setattr(pyigtl, "OpenIGTLinkServer", lambda **_: serve(port=port))
    bridge = example.OpenIGTLinkBridge()
    listener = pyigtl.OpenIGTLinkClient("127.0.0.1", port)
    bench.executor.add_node(bridge)
    bench.activate()
    bench.spin_until(lambda: listener.is_connected() and bridge.count_publishers("registration_node/pose") > 0)
    bench.send_and_wait(FIRST_STAMP)
    bench.spin_until(lambda: bench.received["pose"])
    bench.spin_for(0.3)
    message = listener.wait_for_message("CameraToPatient", timeout=5)
    patient_ras_from_camera = np.diag([-1.0, -1.0, 1.0, 1.0]) @ KNOWN_POSE.inverse().matrix().numpy()
    np.testing.assert_allclose(message.matrix, patient_ras_from_camera, atol=1e-3)  # float32 on the wire
    assert message.timestamp == pytest.approx(FIRST_STAMP * 1e-9, abs=1e-3)
    bench.spin_until(lambda: said(listener) == "valid")

    bench.send_and_wait(FIRST_STAMP + FRAME_NS, blank=True)
    bench.spin_until(lambda: not bench.received["valid"][-1].data)
    bench.spin_for(0.3)
    bench.spin_until(lambda: said(listener) == "not valid")
    assert listener.wait_for_message("CameraToPatient", timeout=0.5) is None
    listener.stop()
    bench.executor.remove_node(bridge)
    bridge.destroy_node()
