"""The initial pose of the demo: predicted from the image by a network, or given.

The package includes weights for the default phantom, trained by `scripts/train_phantom.sh`. They are valid for this phantom
only. For another phantom (another seed or grid), the demo gives a pose near the true one, as a user without weights would.
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
    """The initial pose of the first frame, with a description of its origin and error."""

    camera_from_patient: RigidTransform
    description: str


def with_weights(folder: Path, ct: Path, options: DemoOptions) -> DemoOptions:
    """Return the options with weights for the phantom, if there are any.

    Weights that the options name keep their place; their path becomes absolute. Otherwise the weights of the package are copied
    into the demo's folder if they were trained on this CT and `given_start` is not set.
    """
    if Path(options.registration.method).suffix:  # a file, which the node reads from the demo's folder
        method = str(Path(options.registration.method).resolve())
        options = replace(options, registration=replace(options.registration, method=method))
    shipped = models_folder() / PHANTOM_WEIGHTS
    model = options.registration.model
    if model:  # the node runs in the demo's folder, where a relative path would be wrong
        return replace(options, registration=replace(options.registration, model=str(Path(model).resolve())))
    if options.given_start or not is_trained_on(shipped, read_ct(ct)):
        return options
    shutil.copyfile(shipped, folder / PHANTOM_WEIGHTS)
    return replace(options, registration=replace(options.registration, model=PHANTOM_WEIGHTS))


def given_initial_pose(scene: DemoScene, truth: DemoTruth) -> InitialPose:
    """Read the initial pose from the recording's initial.json."""
    initial = read_pose(scene.recording.initial)
    return InitialPose(initial, f"given, with an mTRE of {_error_mm(initial, truth):.1f} mm")


def predicted_initial_pose(volume: CTVolume, scene: DemoScene, truth: DemoTruth, weights: Path) -> InitialPose:
    """Predict the initial pose of the first frame with the network."""
    first = next(read_recording(scene.recording.bag, RecordingSource(intensity=Intensity.TRANSMITTED))).xray()
    predictor = PosePredictor.load(weights, volume)
    initial = predictor.predict(preprocess(first, PreprocessOptions()).image)[0].camera_from_patient
    return InitialPose(initial, f"predicted from the image, with an mTRE of {_error_mm(initial, truth):.1f} mm")


def _error_mm(initial: RigidTransform, truth: DemoTruth) -> float:
    first = next(pose for pose in truth.poses.values() if pose is not None)
    return target_registration_errors(initial, first, truth.points_patient).mtre_mm
