"""Covariances of the poses of several bodies, each with the uncertainty of all others in it.

The information of the image has a block for every pair of bodies. Its inverse holds, for each body, what remains unknown while
the others may move, too: two bones that overlap in every view are less certain than each alone. Joints add their priors.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.assessment.covariance import MINIMUM_COST, twist_information
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.together import FoundTogether


def body_covariances(
    bodies: tuple[Body, ...], found: FoundTogether, camera_from_reference: RigidTransform, costs: Mapping[str, float]
) -> dict[str, Float[Tensor, "6 6"] | None]:
    """The covariance of every body's twist about its pivot; all None if the poses are not determined together.

    Standard deviations are inflated along the axes of a camera, as for a CT alone. `costs` are those of each body alone: the
    noise between two images is not the same everywhere, and a small body is as certain as the pixels near it are.
    """
    here = found.equations
    pixels, hessian = float(here.pixels[0]), here.image_hessian[0]
    rotations = [(camera_from_reference @ found.poses[body.name]).rotation for body in bodies]
    noise = [max(costs[body.name], float(here.image_cost[0]), MINIMUM_COST) for body in bodies]
    information = torch.zeros_like(hessian)
    for n, row in enumerate(rotations):
        for m, column in enumerate(rotations):
            block = hessian[6 * n : 6 * n + 6, 6 * m : 6 * m + 6]
            cost = math.sqrt(noise[n] * noise[m])
            information[6 * n : 6 * n + 6, 6 * m : 6 * m + 6] = _deflated_block(block, cost, pixels, row, column)
    information = information + _joints(bodies, found)
    covariance = _inverse(information)
    if covariance is None:
        return {body.name: None for body in bodies}
    return {body.name: covariance[6 * n : 6 * n + 6, 6 * n : 6 * n + 6] for n, body in enumerate(bodies)}


def _deflated_block(
    block: Float[Tensor, "6 6"], cost: float, pixels: float, row: Float[Tensor, "3 3"], column: Float[Tensor, "3 3"]
) -> Float[Tensor, "6 6"]:
    """The information of a pair of bodies, each in its own axes; `twist_information` is that of a body with itself."""
    identity = torch.eye(3, dtype=torch.float64)
    to_row, to_column = torch.block_diag(row, row), torch.block_diag(column, column)
    in_camera = to_row @ block @ to_column.T
    return to_row.T @ twist_information(in_camera, cost, pixels, identity) @ to_column


def _joints(bodies: tuple[Body, ...], found: FoundTogether) -> Float[Tensor, "parameters parameters"]:
    """The information of all priors, where the twists are those at the poses found."""
    names = [body.name for body in bodies]
    total = torch.zeros(6 * len(bodies), 6 * len(bodies), dtype=torch.float64)
    for n, body in enumerate(bodies):
        if body.joint is None:
            continue
        parent = names.index(body.joint.parent)
        jacobian = torch.zeros(6, total.shape[0], dtype=torch.float64)
        jacobian[:, 6 * n : 6 * n + 6] = torch.eye(6, dtype=torch.float64)
        jacobian[:, 6 * parent : 6 * parent + 6] = -body.joint.from_parent(body.pivot, bodies[parent].pivot)
        total += jacobian.T @ body.joint.information @ jacobian
    return total


def _inverse(information: Float[Tensor, "n n"]) -> Float[Tensor, "n n"] | None:
    scale = information.diagonal().clamp_min(1e-30).rsqrt()
    correlation = scale[:, None] * information * scale
    if not bool(torch.isfinite(correlation).all()) or float(torch.linalg.eigvalsh(correlation)[0]) < 1e-9:
        return None
    return scale[:, None] * torch.linalg.inv(correlation) * scale
