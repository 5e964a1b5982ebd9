"""Poses that explain an X-ray nearly as well as those that were found, because what the CT shows repeats itself.

A spine that is shifted by one vertebra is seen from nearly the same side. From far away, a search may lead to one of the levels
only. Once the view is known, the others are peaks of the correlation over all shifts.

A symmetric object, such as the tibial part of a knee implant, looks nearly the same from two sides of its plane of symmetry. A
search may lead to one of them only, and that may be the wrong one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.view_grid import ViewGrid
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.method import Learned, SearchOptions, StageOptions
from fluoro_reg.registration.stages.solver import KEEP_RIVALS, RIVAL, Solver
from fluoro_reg.registration.stages.view_templates import best_shifts, make_templates, rotated

COMPARED_PX = 64  # across the CT's projection
APART_MM = 10.0  # from every other hypothesis
SAMPLED_VOXELS = 20_000


def with_shifted_rivals(solver: Solver, poses: RigidTransform) -> RigidTransform:
    """Return hypotheses, the best first, followed by shifts of them that have at least `RIVAL` of the best evidence."""
    scale = solver.scales.from_afar(COMPARED_PX)
    templates = make_templates(scale, solver.model, solver.scales.corners_patient, ViewGrid(poses, (0.0,)))
    found, evidence = best_shifts(templates, *rotated(scale, 0.0), scale.intrinsics)
    solver.n_renders += len(poses.translation)
    n = len(poses.translation)
    order = evidence.argsort(descending=True)
    order = order[evidence[order] >= RIVAL * evidence.max()]
    everything = RigidTransform.cat([poses, found])
    rows = solver.metric.distinct(everything, torch.cat([torch.arange(n), n + order]), APART_MM, n + KEEP_RIVALS)
    return RigidTransform.cat([poses, everything[torch.tensor([row for row in rows if row >= n], dtype=torch.long)]])


def with_mirrored_rivals(
    solver: Solver, poses: RigidTransform, search: SearchOptions | None, stages: Sequence[StageOptions]
) -> RigidTransform:
    """Return hypotheses, followed by those at which a symmetric object would look nearly the same as at the first, the best.

    These are searched around, as initial poses are, and take all stages but the last. The planes of symmetry are tried that an
    object of uniform density may have.
    """
    if solver.model.compared != "object":
        return poses
    centre, axes = principal_axes(solver.scales.renderers.volume)
    classical = tuple(stage for stage in stages if not isinstance(stage.similarity, Learned))
    mirrored = mirrored_poses(poses[:1], centre, axes)
    begins = [solver.initial_poses(mirrored[plane], search) for plane in range(len(axes))]
    return RigidTransform.cat([poses, solver.run_coarse(RigidTransform.cat(begins), classical)])


def mirrored_poses(
    poses: RigidTransform, centre_patient: Float[Tensor, "3"], normals_patient: Float[Tensor, "planes 3"]
) -> RigidTransform:
    """The poses at which an object that is symmetric about one of some planes through its centre looks nearly the same.

    The object is mirrored about the plane, and along the ray from the source to its centre, which hardly changes a projection.
    Together they are a rotation. There is one pose for each pose and plane.
    """
    eye = torch.eye(3, dtype=torch.float64)
    centre = poses.apply(centre_patient[None])[:, 0]
    ray = centre / centre.norm(dim=-1, keepdim=True)
    along_ray = eye - 2 * ray[:, :, None] * ray[:, None, :]
    about_planes = eye - 2 * normals_patient[:, :, None] * normals_patient[:, None, :]
    rotation = (along_ray[:, None] @ poses.rotation[:, None] @ about_planes).flatten(0, 1)
    moved = centre.repeat_interleave(len(normals_patient), dim=0)
    return RigidTransform(rotation, moved - rotation @ centre_patient)


def principal_axes(volume: CTVolume) -> tuple[Float[Tensor, "3"], Float[Tensor, "3 3"]]:
    """The centre of all that is not air (patient mm), and the principal axes of its shape, one a row."""
    voxels = torch.nonzero(volume.attenuation > 0)
    voxels = voxels[:: max(1, len(voxels) // SAMPLED_VOXELS)]
    points = volume.points_patient(voxels.flip(-1).double())
    centre = points.mean(0)
    return centre, torch.linalg.eigh((points - centre).T @ (points - centre)).eigenvectors.T
