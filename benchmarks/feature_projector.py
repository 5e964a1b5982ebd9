"""Processor time of ProST's projection in training: image, six derivatives to the pose, and the gradient of both to the volume.

    python benchmarks/feature_projector.py

The compiled projection (`project_features_with_jacobian`) is compared with gathered samples that autograd differentiates
(`project_features`, which computes only one gradient with respect to the pose, not all derivatives). As in the training of a
similarity, there are images of 48 px, 24 samples per ray, four poses, and three channels on 40 x 36 x 44 voxels of 8 mm, with
torch on one thread. Times are medians of the processor time of this process, so that other work on the machine does not count.
"""

import statistics
import time
from collections.abc import Callable

import torch

from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.rendering import project_features, project_features_with_jacobian

PX, SAMPLES, POSES, CHANNELS, REPEATS = 48, 24, 4, 3, 5


def seconds(step: Callable[[], None]) -> float:
    """Return the median time of a step; the first one, which compiles, does not count."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    patient_from_voxel = torch.diag(torch.tensor([8.0, 8.0, 8.0, 1.0], dtype=torch.float64))
    volume = CTVolume(torch.rand(40, 36, 44), patient_from_voxel)
    focal = 1020.0 * PX / 300
    camera = CameraIntrinsics(PX, PX, focal, focal, (PX - 1) / 2, (PX - 1) / 2)
    pivot = volume.centre_patient
    poses = RigidTransform.stack([ap_pose(pivot, 700.0)] * POSES)
    features = torch.rand(CHANNELS, 40, 36, 44, requires_grad=True)

    def run_autograd() -> None:
        twist = torch.zeros(POSES, 6, dtype=torch.float64, requires_grad=True)
        image = project_features(features, volume, retract(poses, twist, pivot), camera, SAMPLES)
        (gradient,) = torch.autograd.grad(image.square().mean(), twist, create_graph=True)
        gradient.square().sum().backward()

    def run_compiled() -> None:
        image, jacobian = project_features_with_jacobian(features, volume, poses, camera, SAMPLES, pivot)
        gradient = torch.einsum("bchw,bchwk->bk", image, jacobian)
        gradient.square().sum().backward()

    slow, fast = seconds(run_autograd), seconds(run_compiled)
    print(f"autograd {slow:.3f} s, compiled {fast:.3f} s: {slow / fast:.1f} times as fast")


if __name__ == "__main__":
    main()
