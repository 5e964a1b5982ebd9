"""The policy for DDS Security names exactly what the node publishes, subscribes to and serves."""

import os
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from helpers.ros_bench import PROJECT
from helpers.ros_processes import fake_node

pytestmark = pytest.mark.ros

NODE = "registration_node"
ENCLAVE = f"/fluoro_reg/{NODE}"


@pytest.fixture(scope="module")
def policy():
    return ElementTree.parse(PROJECT / "config" / "security" / "policy.xml").getroot()


def allowed(policy, section, right):
    """The full names of topics or services with a right."""
    rows = policy.findall(f".//{section}[@{right}='ALLOW']/*")
    return {f"/{row.text}".replace("/~", f"/{NODE}/") for row in rows}


def test_the_policy_names_exactly_the_topics_and_services_of_the_node(policy, make_bench):
    bench = make_bench(second__path="view.json", tf__mode="anchored", frames__anchor="table", tf__fuse=True)
    bench.activate()
    node = bench.node

    def names(of):
        return {name for name, _ in of(NODE, "/")}

    subscribed = allowed(policy, "topics", "subscribe") - {"/clock"}  # which use_sim_time adds
    for expected, of in (
        (allowed(policy, "topics", "publish"), node.get_publisher_names_and_types_by_node),
        (subscribed, node.get_subscriber_names_and_types_by_node),
        (allowed(policy, "services", "reply"), node.get_service_names_and_types_by_node),
        (allowed(policy, "services", "request"), node.get_client_names_and_types_by_node),
    ):
        bench.spin_until(lambda expected=expected, of=of: names(of) == expected)  # the graph follows with a delay
    assert [enclave.get("path") for enclave in policy.iter("enclave")] == [ENCLAVE]


def test_a_node_that_must_be_secure_does_not_start_without_its_keys(tmp_path):
    """Neither with a middleware that has no security, nor with one that has."""
    strict = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce", "ROS_SECURITY_KEYSTORE": str(tmp_path)}
    (tmp_path / "enclaves" / ENCLAVE[1:]).mkdir(parents=True)
    command = fake_node("--enclave", ENCLAVE, "-p", "autostart:=true")
    ended = subprocess.run(command, env=os.environ | strict, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "active:" not in ended.stderr
