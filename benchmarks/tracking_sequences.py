"""The sequences of `tracking.py`: simulated fluoroscopy with a known pose for each frame, and recordings."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.dimensions import SOURCE_TO_OBJECT_MM
from fluoro_reg.carm.pose_sampling import perturb_to_mtre, smooth_motion
from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.carm.views import BONE_SAMPLES, TARGETS, carm_camera, targets_in_view
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.recordings import RecordingSource, read_recording, read_truth
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, se3
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_volume
from fluoro_reg.simulation.simulator import XraySimulator, blank_xray
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.reader import xray_from_pixels

RATE_HZ = 15.0
MACHINE = SimulationOptions()
GOOD = "patient"
OTHER = PhantomOptions(seed=7, sex="male", scale=0.88)


@dataclass(frozen=True, slots=True)
class SequenceFrame:
    """One image. `truth` is the pose of the patient at its stamp, None if the recording has none; `kind` says what it shows."""

    stamp_ns: int
    xray: XrayImage
    truth: RigidTransform | None
    kind: str = GOOD


@dataclass(frozen=True, slots=True)
class TrackedSequence:
    """The frames of a sequence, the pose to begin from, and the points at which errors are measured (patient mm)."""

    name: str
    initial_pose: RigidTransform
    points_patient: torch.Tensor
    frames: tuple[SequenceFrame, ...]


@dataclass(slots=True)
class World:
    """The phantom, another patient, and the camera."""

    size_px: int
    volume: CTVolume = field(default_factory=lambda: phantom_volume(PhantomOptions()))
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(1))
    camera: CameraIntrinsics = field(init=False)
    first: RigidTransform = field(init=False)
    points: torch.Tensor = field(init=False)
    pivot: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.camera = carm_camera(self.size_px)
        bone = bone_points(self.volume, BONE_SAMPLES, self.generator)
        self.pivot = aim_point(self.volume, bone)
        self.first = ap_pose(self.pivot, SOURCE_TO_OBJECT_MM)
        self.points = targets_in_view(bone, self.first, self.camera, TARGETS)

    def sequence(self, name: str, poses: RigidTransform, kinds: dict[int, str]) -> TrackedSequence:
        """Simulate one frame for each pose; `kinds` lists the frames that do not show the patient as he is."""
        initial = perturb_to_mtre(self.first, self.points, 10.0, self.volume.centre_patient, self.generator)
        return TrackedSequence(name, initial, self.points, tuple(self._frames(poses, kinds)))

    def _frames(self, poses: RigidTransform, kinds: dict[int, str]) -> Iterator[SequenceFrame]:
        simulator, other, last = XraySimulator(self.volume, MACHINE), None, None
        for n in range(poses.translation.shape[0]):
            kind, stamp = kinds.get(n, GOOD), round((1 + n / RATE_HZ) * 1e9)
            if kind == "other patient" and other is None:
                other = XraySimulator(phantom_volume(OTHER), MACHINE)
            if kind == "blank":
                pixels = blank_xray(self.camera, MACHINE, self.generator, beam_on=n % 2 == 1)
            elif kind == "frozen" and last is not None:
                pixels = last
            else:
                pixels = (other if kind == "other patient" else simulator).image(poses[n], self.camera, self.generator)
                pixels = pixels[:, ::-1].copy() if kind == "mirrored" else pixels
            last = pixels
            yield SequenceFrame(stamp, xray_from_pixels(pixels, self.camera, Intensity.TRANSMITTED), poses[n], kind)

    def moving(self, frames: int, amplitude: tuple[float, float] = (12.0, math.radians(5.0))) -> RigidTransform:
        """A slow C-arm around the AP view, as in the demo, and a patient who breathes by 3 mm every four seconds."""
        seconds = frames / RATE_HZ
        slow = smooth_motion(self.first, frames, self.pivot, amplitude, self.generator, periods=max(1.0, seconds / 6))
        breath = torch.zeros(frames, 6, dtype=torch.float64)
        breath[:, 2] = 1.5 * (1 - torch.cos(2 * math.pi * torch.arange(frames) / RATE_HZ / 4))
        return se3.retract(slow, breath, self.pivot)


def _demo(world: World, frames: int) -> TrackedSequence:
    poses = smooth_motion(world.first, 40, world.pivot, (12.0, math.radians(5.0)), world.generator)
    return world.sequence("demo", poses, dict.fromkeys((11, 22, 33), "blank"))


def _long(world: World, frames: int) -> TrackedSequence:
    """20 blank, 10 frozen and 5 mirrored frames among 600, in runs of one to five; proportionally fewer in a shorter one."""
    kinds: dict[int, str] = {}
    runs = [("blank", 5), ("frozen", 2), ("mirrored", 1), ("blank", 3), ("frozen", 5), ("blank", 2), ("mirrored", 3),
            ("blank", 1), ("blank", 4), ("frozen", 1), ("blank", 1), ("mirrored", 1), ("blank", 4), ("frozen", 2)]  # fmt: skip
    for number, (kind, length) in enumerate(runs):
        start = (number + 1) * frames // (len(runs) + 1)
        kinds |= dict.fromkeys(range(start, start + length), kind)
    return world.sequence("long", world.moving(frames), kinds)


def _jump(world: World, frames: int) -> TrackedSequence:
    """After two seconds the patient is pushed by 15 mm and 4 degrees between two frames."""
    poses = world.moving(60)
    push = torch.tensor([12.0, 0.0, 9.0, 0.0, 0.07, 0.0], dtype=torch.float64)
    moved = se3.retract(poses, push.expand(60, 6), world.pivot)
    return world.sequence("jump", RigidTransform.cat([poses[:30], moved[30:]]), {})


def _dropout(world: World, frames: int) -> TrackedSequence:
    return world.sequence("dropout of 2 s", world.moving(90), dict.fromkeys(range(30, 60), "blank"))


def _wrong_patient(world: World, frames: int) -> TrackedSequence:
    return world.sequence("wrong patient for 1 s", world.moving(75), dict.fromkeys(range(30, 45), "other patient"))


def _swing(world: World, frames: int) -> TrackedSequence:
    """The C-arm swings by 30 degrees in a second about the patient's long axis, with a smooth beginning and end."""
    phase = ((torch.arange(75, dtype=torch.float64) - 30) / RATE_HZ).clamp(0, 1)
    twist = torch.zeros(75, 6, dtype=torch.float64)
    twist[:, 5] = math.radians(30.0) * (1 - torch.cos(math.pi * phase)) / 2
    still = RigidTransform.stack([world.first] * 75)
    return world.sequence("swing of 30 degrees in 1 s", se3.retract(still, twist, world.pivot), {})


SEQUENCES: dict[str, Callable[[World, int], TrackedSequence]] = {
    "demo": _demo,
    "long": _long,
    "jump": _jump,
    "dropout": _dropout,
    "wrong-patient": _wrong_patient,
    "swing": _swing,
}


def simulated(names: Sequence[str], frames: int, size_px: int) -> Iterator[tuple[CTVolume, TrackedSequence]]:
    """Simulate the named sequences of the phantom one after the other."""
    world = World(size_px)
    for name in names:
        yield world.volume, SEQUENCES[name](world, frames)


def recorded(path: Path, initial_pose: RigidTransform, points: torch.Tensor, intensity: Intensity) -> TrackedSequence:
    """A recording, with the true poses of `truth.json` beside it, if there is one."""
    truth = read_truth(path.parent / "truth.json") if (path.parent / "truth.json").is_file() else None
    frames = []
    for frame in read_recording(path, RecordingSource(intensity=intensity)):
        pose = truth.pose_of(frame) if truth is not None else None
        kind = "blank" if truth is not None and pose is None else GOOD
        frames.append(SequenceFrame(frame.stamp_ns, frame.xray(), pose, kind))
    return TrackedSequence(path.name, initial_pose, points, tuple(frames))
