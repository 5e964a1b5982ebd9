"""The demo's scene: a phantom as a DICOM series, and a recording of it with known poses."""

from dataclasses import dataclass
from pathlib import Path

import torch

from fluoro_reg.config import option, section
from fluoro_reg.progress import Progress
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.simulation.bags import BagOptions, SimulatedBag, simulate_bag
from fluoro_reg.simulation.body_motion import BodyFiles
from fluoro_reg.simulation.phantom.bodies import write_phantom_bodies
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu, phantom_landmarks


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of the demo: phantom, recording and registration."""

    phantom: PhantomOptions = section(PhantomOptions)
    recording: BagOptions = section(BagOptions)
    registration: RegistrationOptions = section(RegistrationOptions)
    bodies: bool = option(False, "let pelvis, both femurs and L5 move on their own, each with a frame of its own")
    given_start: bool = option(False, "begin at a given pose near the true one, even if weights for the phantom are available")


def blank_frames(frames: int) -> tuple[int, ...]:
    """Return the indices of three blank frames, distributed as in the default recording."""
    return tuple(11 * k * frames // 40 for k in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class DemoScene:
    """The files of a demo; `bodies` are those of bones that move on their own, if they do."""

    ct: Path
    recording: SimulatedBag
    bodies: BodyFiles | None = None


def make_phantom(folder: Path, options: DemoOptions) -> Path:
    """Write the phantom as a DICOM series and return its folder."""
    write_dicom_series(folder / "ct", *phantom_hu(options.phantom))
    return folder / "ct"


def make_recording(ct: Path, options: DemoOptions, progress: Progress) -> DemoScene:
    """Simulate a recording of the CT as read by the DICOM reader; errors are measured at the phantom's landmarks."""
    bodies = write_phantom_bodies(ct.parent, options.phantom) if options.bodies else None
    points = torch.stack(list(phantom_landmarks(options.phantom).values()))
    recording = simulate_bag(ct, ct.parent / "recording", options.recording, points, progress, bodies)
    return DemoScene(ct, recording, bodies)
