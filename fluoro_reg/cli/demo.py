"""`fluoro-reg demo`: registration end to end, from the image topic to tf2, on a phantom that the package makes.

The demo runs what a user runs: `registration_node`, a bag player and a tf2 listener, each in a process of its own. It prepares
the scene, follows the processes, and compares the transforms that the listener received with the ground truth. It does not
import ROS.
"""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fluoro_reg.cli.common_arguments import CommonArguments
from fluoro_reg.cli.demo_screen import DemoScreen
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.output import Output
from fluoro_reg.cli.typer_command import epilog_text
from fluoro_reg.demo.ros_processes import RosProcessError
from fluoro_reg.errors import InputError

NAME = "demo"
EPILOG = epilog_text(
    [
        ("Run the demo", "fluoro-reg demo --out demo_output/"),
        ("Give every bone a frame of its own", "fluoro-reg demo --out bones/ --bodies"),
        ("Run it with another phantom and noisy X-rays", "fluoro-reg demo --out noisy/ --seed 3 --set recording.variant=noisy"),
    ],
    "0 all checks passed; 1 a check or a process failed (the reason is given); 2 unusable arguments, or ROS 2 is missing.",
)
BODIES_SETTINGS = {"bodies": True, "recording.detector_mm": 430.0, "given_start": True}
ROS_PACKAGES = ("rclpy", "tf2_msgs", "sensor_msgs", "diagnostic_msgs")


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; an earlier demo in it is replaced.")],
    common: CommonArguments,
    frames: Annotated[
        int | None, typer.Option(min=6, metavar="N", help="Frames of the recording; three of them are blank. Default: 40.")
    ] = None,
    bodies: Annotated[
        bool,
        typer.Option(
            "--bodies",
            help="Let pelvis, both femurs and L5 move on their own, each with a frame of its own. The detector is then 43 cm "
            "wide, as that of a fixed C-arm, and shows all of them; the node begins at a given pose.",
        ),
    ] = False,
) -> int:
    """Demonstrate registration end to end on a phantom: X-rays on a ROS 2 topic, the patient's pose on tf2.

    The demo makes a pelvis CT (a DICOM series) and a rosbag2 of a moving C-arm. It starts the node, a bag player and a tf2
    listener as separate processes, and compares the transforms that the listener receives with the ground truth (mTRE in mm).
    ROS 2 is required; scripts/demo.sh installs it.

    The folder then holds report.html, summary.json and everything needed to repeat the run. Settings for --set: phantom.*,
    recording.* and registration.*.
    """
    missing = [name for name in ROS_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the demo needs ROS 2, but this Python has no {missing[0]}; run 'bash scripts/demo.sh' in the project, which "
            "installs it, or source an installed ROS 2"
        )
    from fluoro_reg.demo.run import run_demo
    from fluoro_reg.demo.scene import DemoOptions, blank_frames

    output = Output(common.json)
    blank = None if frames is None else blank_frames(frames)
    seeds = {f"{section}.seed": common.seed for section in ("phantom", "recording", "registration")}
    explicit = {
        **(BODIES_SETTINGS if bodies else {}),
        "recording.frames": frames,
        "recording.blank": blank,
        "registration.device": common.device,
        **seeds,
    }
    options = common.settings(DemoOptions, explicit)
    screen = DemoScreen(output.stderr if common.json else output.stdout)
    try:
        outcome = run_demo(out, options, screen)
    except RosProcessError as failure:
        output.stderr.print(f"fluoro-reg: {escape(str(failure))}", soft_wrap=True, style="red")
        return ExitStatus.REJECTED
    output.show(outcome.summary)
    screen.show_outcome(outcome, out)
    return ExitStatus.REJECTED if outcome.failed_checks else ExitStatus.ACCEPTED
