"""Where the demo's node begins: at what a network sees in the image, or at a given pose.

The package ships weights of the default phantom, made by `scripts/train_phantom.sh`. They know that one person: for another
phantom (another seed, another grid) the demo gives a pose beside the true one, as an engineer without weights does.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.demo.assessment import DemoTruth
from fluoro_reg.demo.scene import DemoOptions, DemoScene
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.formats.poses import read_pose
from fluoro_reg.formats.recordings import RecordingSource, read_recording
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.regressor import PosePredictor, is_trained_on
from fluoro_reg.resources import models_folder
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

PHANTOM_WEIGHTS = "phantom_regressor.safetensors"


@dataclass(frozen=True, slots=True)
class InitialPose:
    """Where the first frame's search began, and in words how good that was."""

    camera_from_patient: RigidTransform
    words: str


def with_weights(folder: Path, ct: Path, options: DemoOptions) -> DemoOptions:
    """The options with the shipped weights, copied into the demo's folder, where they know this phantom and are wanted."""
    shipped = models_folder() / PHANTOM_WEIGHTS
    model = options.registration.model
    if model:  # the node runs in the demo's folder
        return replace(options, registration=replace(options.registration, model=str(Path(model).resolve())))
    if options.given_start or not is_trained_on(shipped, read_ct(ct)):
        return options
    shutil.copyfile(shipped, folder / PHANTOM_WEIGHTS)
    return replace(options, registration=replace(options.registration, model=PHANTOM_WEIGHTS))


def given_start(scene: DemoScene, truth: DemoTruth) -> InitialPose:
    """The recording's initial.json."""
    start = read_pose(scene.recording.initial)
    return InitialPose(start, f"given, {_error_mm(start, truth):.1f} mm from the truth")


def predicted_initial_pose(volume: CTVolume, scene: DemoScene, truth: DemoTruth, weights: Path) -> InitialPose:
    """What the network says of the first frame."""
    first = next(read_recording(scene.recording.bag, RecordingSource(intensity=Intensity.TRANSMITTED))).xray()
    start = PosePredictor.load(weights, volume).predict(preprocess(first, PreprocessOptions()).image)[0].camera_from_patient
    return InitialPose(start, f"found by the network in the image alone, {_error_mm(start, truth):.1f} mm from the truth")


def _error_mm(start: RigidTransform, truth: DemoTruth) -> float:
    first = next(pose for pose in truth.poses.values() if pose is not None)
    return target_registration_errors(start, first, truth.points_patient).mtre_mm
