"""The twin of `GradientPass` in float64 torch: the same system from a whole image with its Jacobian, and as plain as possible.

`PatchPass` needs none, because `PatchNCC.normal_equations` is one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import Evaluation, PoseObjective, Scale
from fluoro_reg.registration.tracking.passes import FusedSystem, gradient_target
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.similarity.residual import geman_mcclure


def reference_system(
    scale: Scale,
    model: ObjectModel,
    similarity: GradientNCC,
    pixels: Float[Tensor, "height width"],
    pose: RigidTransform,
    fit: Float[Tensor, "2"],
) -> FusedSystem:
    """The normal equations of [twist, gain, offset]. The scale's renderer should be a `TorchRenderer` in float64."""
    cost, residual, jacobian, weight = _linearised(scale, model, similarity, pixels, pose, fit)
    weighted = jacobian * weight[:, None]
    return FusedSystem(cost, (weighted.T @ residual).numpy(), (weighted.T @ jacobian).numpy())


def _linearised(
    scale: Scale,
    model: ObjectModel,
    similarity: GradientNCC,
    pixels: Float[Tensor, "height width"],
    pose: RigidTransform,
    fit: Float[Tensor, "2"],
) -> tuple[float, Float[Tensor, "n"], Float[Tensor, "n 8"], Float[Tensor, "n"]]:
    """Cost, residuals, their derivatives and robust weights, of both gradient directions."""
    at: Evaluation = PoseObjective(scale, model, similarity).evaluate(RigidTransform.stack([pose]))
    target, weight = gradient_target(similarity, scale.fixed.double(), pixels.double())
    channels = torch.cat([at.moving[..., None], at.jacobian], dim=-1).double().movedim(-1, 1)
    gradients = sobel_gradients(channels)[0].flatten(1)  # 7, 2 height width
    residual = fit[0] * gradients[0] + fit[1] - target.flatten()
    weights = weight.flatten().repeat(2)
    rho, reweight = geman_mcclure(residual.square(), similarity.robust_scale)
    columns = [*(fit[0] * gradients[1:]), gradients[0], torch.ones_like(residual)]
    return float((weights * rho).sum()), residual, torch.stack(columns, dim=-1), weights * reweight
