"""`fluoro-reg demo`: the whole chain for everyone to see, on a patient that the package makes.

What runs is what a user runs: `registration_node`, a bag player and a tf listener, each a process of its own. The demo only
sets the scene, looks on, and compares the transforms that the listener heard with the truth. It imports no ROS.
"""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fluoro_reg.cli.demo_screen import DemoScreen
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.options import Common
from fluoro_reg.cli.output import Output
from fluoro_reg.demo.ros_processes import RosProcessError
from fluoro_reg.errors import InputError

NAME = "demo"
EXAMPLES = (
    "Example:\n\n$ fluoro-reg demo --out demo_output\n\n"
    "$ fluoro-reg demo --out another_person --seed 3 --set recording.variant=noisy\n\n"
    "Exit status: 0 the demo did what it should; 1 it did not, with the reason; 2 unusable arguments, or no ROS 2."
)
NEEDED = ("rclpy", "tf2_msgs", "sensor_msgs", "diagnostic_msgs")


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; an earlier demo in it is replaced.")],
    common: Common,
    frames: Annotated[
        int | None, typer.Option(min=6, metavar="N", help="Frames of the recording, three of them blank. Default: 40.")
    ] = None,
) -> int:
    """Show the whole chain on a phantom: C-arm images on a ROS 2 topic, registered to a CT, the patient on tf2.

    Makes a pelvis CT as a DICOM series and a rosbag2 of a moving C-arm, starts the node, a player and a tf2 listener as
    processes of their own, and compares what the listener hears with the truth: mTRE in mm, in 3-D. Writes report.html,
    summary.json and everything needed to run it again. Settings: phantom.*, recording.* and registration.*.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the demo needs ROS 2, and this Python has no {missing[0]}; run 'bash scripts/demo.sh' in the project, which "
            "installs it, or source an installed ROS 2"
        )
    from fluoro_reg.demo.run import run_demo
    from fluoro_reg.demo.scene import DemoOptions, blank_frames

    output = Output(common.json)
    blank = None if frames is None else blank_frames(frames)
    seeds = {f"{section}.seed": common.seed for section in ("phantom", "recording", "registration")}
    explicit = {"recording.frames": frames, "recording.blank": blank, "registration.device": common.device, **seeds}
    options = common.settings(DemoOptions, explicit)
    screen = DemoScreen(output.log if common.json else output.answer)
    try:
        result = run_demo(out, options, screen)
    except RosProcessError as failure:
        output.log.print(f"fluoro-reg: {escape(str(failure))}", soft_wrap=True, style="red")
        return ExitStatus.REJECTED
    output.show(result.summary)
    screen.finished(result, out)
    return ExitStatus.REJECTED if result.shortcomings else ExitStatus.ACCEPTED
