"""Poses that explain an X-ray nearly as well as those that were found, because what the CT shows repeats itself.

A spine that is shifted by one vertebra is seen from nearly the same side. From far away, a search may lead to one of the levels
only. Once the view is known, the others are peaks of the correlation over all shifts.
"""

import torch

from fluoro_reg.carm.view_grid import ViewGrid
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.stages.solver import KEEP_RIVALS, RIVAL, Solver
from fluoro_reg.registration.stages.view_templates import best_shifts, make_templates, rotated

COMPARED_PX = 64  # across the CT's projection
APART_MM = 10.0  # from every other hypothesis


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
