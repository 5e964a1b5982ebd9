"""Gradient NCC over the twists of several bodies: its normal equations are those of one twist, block by block."""

import torch

from fluoro_reg.similarity import GradientNCC


def test_the_blocks_of_several_bodies_are_those_of_each_alone():
    generator = torch.Generator().manual_seed(5)
    moving, fixed = torch.rand(1, 24, 20, generator=generator), torch.rand(1, 24, 20, generator=generator)
    jacobian, weight = (
        torch.randn(1, 24, 20, 12, generator=generator),
        (torch.rand(1, 24, 20, generator=generator) > 0.2).float(),
    )
    both = GradientNCC().normal_equations(moving, jacobian, fixed, weight)
    for n in range(2):
        block = slice(6 * n, 6 * n + 6)
        alone = GradientNCC().normal_equations(moving, jacobian[..., block], fixed, weight)
        assert torch.allclose(both.cost.double(), alone.cost.double(), rtol=1e-4)
        assert torch.allclose(both.gradient[:, block].double(), alone.gradient.double(), rtol=1e-3, atol=1e-4)
        assert torch.allclose(both.hessian[:, block, block].double(), alone.hessian.double(), rtol=1e-3, atol=1e-3)
