"""Random numbers for a batch, one an image, from one seeded generator on the device of the images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RandomValues:
    """`batch` numbers at a time."""

    batch: int
    generator: torch.Generator

    @staticmethod
    def seeded(batch: int, seed: int, number: int, device: torch.device | str = "cpu") -> "RandomValues":
        """The random of batch `number` of a seed: any batch can be made again without those before it."""
        return RandomValues(batch, seeded_generator(seed, number, device))

    def even(self, low: float, high: float) -> Float[Tensor, "batch"]:
        return low + (high - low) * torch.rand(self.batch, generator=self.generator, device=self.generator.device)

    def log_uniform(self, low: float, high: float) -> Float[Tensor, "batch"]:
        """Even in the logarithm: a half is as likely as the double."""
        return torch.exp(self.even(math.log(low), math.log(high)))

    def happens(self, share: float) -> Bool[Tensor, "batch"]:
        return self.even(0, 1) < share

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        return torch.randn(self.batch, *shape, generator=self.generator, device=self.generator.device)


def seeded_generator(seed: int, number: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of draw `number` of a seed; neighbours are unrelated (Knuth's multiplier mixes the two)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**63
    return torch.Generator(device).manual_seed(mixed)
