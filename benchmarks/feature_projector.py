"""Processor time of one step of ProST's projection: image, its gradient to the pose, and the gradient of that to the volume.

    python benchmarks/feature_projector.py

Compiled (`project_features_linearised`) against gathered samples that autograd differentiates (`project_features`): images of
48 px, 24 samples a ray, eight poses, three channels on 40 x 36 x 44 voxels of 8 mm, as in the training of a similarity. Medians
of this process' processor time, so that other work on the machine does not count; torch on one thread, as in training.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.geometry.pose_sampling import ap_pose
from fluoro_reg.rendering import project_features, project_features_linearised

PX, SAMPLES, POSES, CHANNELS, REPEATS = 48, 24, 8, 3, 5


def seconds(
    project: Callable[[Tensor, RigidTransform], Tensor], features: Tensor, poses: RigidTransform, pivot: Tensor
) -> float:
    """The median of some steps; the first, which compiles, does not count."""
    found = []
    for _ in range(REPEATS + 1):
        begin = time.process_time()
        twist = torch.zeros(POSES, 6, dtype=torch.float64, requires_grad=True)
        image = project(features, retract(poses, twist, pivot))
        (gradient,) = torch.autograd.grad(image.square().mean(), twist, create_graph=True)
        gradient.square().sum().backward()
        found.append(time.process_time() - begin)
    return statistics.median(found[1:])


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
    gathered = seconds(lambda f, p: project_features(f, volume, p, camera, SAMPLES), features, poses, pivot)
    compiled = seconds(lambda f, p: project_features_linearised(f, volume, p, camera, SAMPLES, pivot), features, poses, pivot)
    print(f"gathered {gathered:.3f} s, compiled {compiled:.3f} s: {gathered / compiled:.0f} times")


if __name__ == "__main__":
    main()
