"""Parameters of the node, which are derived from the options and checked more strictly than ROS does."""

import threading

import pytest
import rclpy
from helpers.ros_bench import PROJECT, FakeTracker
from helpers.ros_probe import FIRST_STAMP, FRAME_NS
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from fluoro_reg.config import walk_options
from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.parameters import ParameterSet
from fluoro_reg.ros.parameters_file import parameters_file

pytestmark = pytest.mark.ros

OPTIONS = {info.name: info for cls in (NodeOptions, RegistrationOptions) for info in walk_options(cls)}


@pytest.fixture
def make_set():
    nodes = []

    def make(*arguments):
        cli = ["--ros-args", *arguments]
        node = rclpy.create_node("parameters", cli_args=cli, automatically_declare_parameters_from_overrides=True)
        nodes.append(node)
        return node, ParameterSet(node, NodeOptions, RegistrationOptions)

    yield make
    for node in nodes:
        node.destroy_node()


def test_option_names_are_unique():
    assert len(OPTIONS) == sum(1 for cls in (NodeOptions, RegistrationOptions) for _ in walk_options(cls))


def test_every_option_is_a_described_parameter_with_its_default(make_set):
    node, parameters = make_set()
    assert parameters.read(NodeOptions) == NodeOptions()
    assert parameters.read(RegistrationOptions) == RegistrationOptions()
    for name, info in OPTIONS.items():
        description = node.describe_parameter(name)
        assert info.doc in description.description
        if info.type is float:
            assert description.type == ParameterType.PARAMETER_DOUBLE
            if info.maximum is not None:
                assert description.floating_point_range[0].to_value == info.maximum


def test_values_from_the_command_line_are_read(make_set):
    given = ["-p", "gate.minimum_similarity:=0.7", "-p", "frames.patient:=lps", "-p", "gate.depth_range_mm:=[200.0, 900.0]"]
    _, parameters = make_set(*given)
    registration = parameters.read(RegistrationOptions)
    assert registration.gate.minimum_similarity == 0.7
    assert registration.gate.depth_range_mm == (200.0, 900.0)
    assert parameters.read(NodeOptions).frames.patient == "lps"


def test_an_integer_is_converted_to_a_float_or_a_string(make_set):
    _, parameters = make_set("-p", "valid_timeout:=2", "-p", "gate.depth_range_mm:=[200, 900]", "-p", "ct.series:=2")
    assert parameters.read(NodeOptions).ct.series == "2"
    assert parameters.read(NodeOptions).valid_timeout == 2.0
    assert parameters.read(RegistrationOptions).gate.depth_range_mm == (200.0, 900.0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("gate.minimum_similarty:=0.7", "'gate.minimum_similarty' is not a parameter.*did you mean 'gate.minimum_similarity'"),
        ("xyzzy:=1", "'xyzzy' is not a parameter of this node"),
        ("gate.minimum_similarity:=1.7", "'gate.minimum_similarity' must lie in .* got 1.7"),
        ("gate.minimum_similarity:=high", "'gate.minimum_similarity' must be of type float, got 'high'"),
        ("device:=gpu", "'device' must be one of cpu, cuda, auto, got 'gpu'"),
        ("gate.depth_range_mm:=[1.0]", "needs 2 values, got 1"),
        ("saturation:=much", "saturation must be a positive number"),
    ],
)
def test_an_invalid_parameter_is_rejected_with_one_sentence(make_set, given, sentence):
    _, parameters = make_set("-p", given)
    with pytest.raises(InputError, match=sentence):
        parameters.read(NodeOptions)
        parameters.read(RegistrationOptions)


def test_parameters_of_ros_itself_are_accepted(make_set):
    given = ["-p", "use_sim_time:=false", "-p", "qos_overrides./image.subscription.depth:=3"]
    _, parameters = make_set(*given)
    assert parameters.read(NodeOptions) == NodeOptions()


def test_setting_an_invalid_value_is_rejected_with_a_reason(make_set):
    node, parameters = make_set()
    result = node.set_parameters([Parameter("device", value="gpu")])[0]
    assert not result.successful
    assert "must be one of cpu, cuda, auto" in result.reason
    assert node.set_parameters([Parameter("device", value="cpu")])[0].successful
    assert parameters.read(RegistrationOptions).device == "cpu"


def test_a_misspelt_name_in_a_file_fails_configure(make_bench, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    gate:\n      minimum_similarty: 0.7\n")
    bench = make_bench(arguments=["--params-file", str(file)])
    assert bench.node.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_parameters_can_be_set_only_while_unconfigured(make_bench):
    bench = make_bench()
    change = [Parameter("ct.path", value="another")]
    assert bench.node.set_parameters(change)[0].successful
    assert not bench.node.describe_parameter("ct.path").read_only
    bench.node.trigger_configure()
    rejected = bench.node.set_parameters(change)[0]
    assert not rejected.successful
    assert "read only in configure" in rejected.reason
    assert bench.node.describe_parameter("ct.path").read_only
    assert not bench.node.describe_parameter("gate.minimum_overlap").read_only
    bench.node.trigger_cleanup()
    assert bench.node.set_parameters(change)[0].successful


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("gate.minimum_similarty", 0.5, "'gate.minimum_similarty' is not a parameter of this node; did you mean"),
        ("xyzzy", 1, "'xyzzy' is not a parameter of this node"),
        ("gate.minimum_similarity", "high", "'gate.minimum_similarity' must be of type float, got 'high'"),
        ("gate.minimum_similarity", 1.7, "'gate.minimum_similarity' must lie in 0.2 to 1.0, got 1.7"),
        ("method", "lm-gradient-nc", "lm-gradient-ncc"),
        ("device", "gpu", "'device' must be one of cpu, cuda, auto, got 'gpu'"),
    ],
)
def test_the_parameter_service_answers_in_words(make_bench, name, value, sentence):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    result = make_bench().call(SetParameters, "set_parameters", request).results[0]
    assert not result.successful
    assert sentence in result.reason


def test_the_parameter_service_takes_an_integer_for_a_float(make_bench):
    bench = make_bench()
    request = SetParameters.Request(parameters=[Parameter("valid_timeout", value=2).to_parameter_msg()])
    assert bench.call(SetParameters, "set_parameters", request).results[0].successful
    assert bench.node.get_parameter("valid_timeout").value == 2.0


def change_together(bench, **values):
    parameters = [Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()]
    request = SetParametersAtomically.Request(parameters=parameters)
    return bench.call(SetParametersAtomically, "set_parameters_atomically", request).result


def test_thresholds_change_together_between_two_frames(make_bench):
    tracker, release = FakeTracker(), threading.Event()
    tracker.before_result = lambda: release.wait(5)
    bench = make_bench(tracker)
    bench.activate()
    bench.send(FIRST_STAMP)
    bench.spin_until(lambda: len(tracker.images) == 1)
    assert change_together(bench, gate__minimum_similarity=0.9, gate__minimum_overlap=0.8, maximum_image_age=0.5).successful
    assert not tracker.changed_options  # not in the middle of a frame
    release.set()
    bench.spin_until(lambda: len(bench.results()) == 1)
    assert bench.results()[0]["accepted"] == "true"
    assert "more than maximum_image_age = 0.5 s" in bench.send_and_wait(FIRST_STAMP + FRAME_NS).message
    gates = [options.gate for options in tracker.changed_options]
    assert [(gate.minimum_similarity, gate.minimum_overlap) for gate in gates] == [(0.9, 0.8)]


def test_of_changes_that_do_not_all_hold_none_is_made(bench):
    for other in ({"gate__minimum_overlap": 7.0}, {"ct__path": "another"}, {"gate__overlap": 0.5}):
        assert not change_together(bench, gate__minimum_similarity=0.9, **other).successful
    assert bench.node.get_parameter("gate.minimum_similarity").value == RegistrationOptions().gate.minimum_similarity
    bench.send_and_wait(FIRST_STAMP)
    assert not bench.tracker.changed_options


def test_the_shipped_file_is_generated_from_the_options():
    file = (PROJECT / "config" / "registration.yaml").read_text(encoding="utf-8")
    assert file == parameters_file(), "run: python -m fluoro_reg.ros.parameters_file > config/registration.yaml"


def test_the_node_reads_the_shipped_file(make_set):
    _, parameters = make_set("--params-file", str(PROJECT / "config" / "registration.yaml"))
    assert parameters.read(NodeOptions) == NodeOptions()
    assert parameters.read(RegistrationOptions) == RegistrationOptions()


def test_a_later_parameters_file_overrides_an_earlier_one(make_set, tmp_path):
    file = tmp_path / "launch.yaml"
    file.write_text("/**:\n  ros__parameters:\n    ct.path: here\n    gate.minimum_overlap: 0.5\n")
    _, parameters = make_set("--params-file", str(PROJECT / "config" / "registration.yaml"), "--params-file", str(file))
    assert parameters.read(NodeOptions).ct.path == "here"
    assert parameters.read(RegistrationOptions).gate.minimum_overlap == 0.5
