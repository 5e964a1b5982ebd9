"""Random values for a batch, one for each image, from a seeded generator on the device of the images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RandomValues:
    """A source of random values; each call returns `batch` of them."""

    batch: int
    generator: torch.Generator

    @staticmethod
    def seeded(batch: int, seed: int, number: int, device: torch.device | str = "cpu") -> "RandomValues":
        """Return the source for batch `number` of a seed; any batch can be made again without those before it."""
        return RandomValues(batch, seeded_generator(seed, number, device))

    def uniform(self, low: float, high: float) -> Float[Tensor, "batch"]:
        """Return values that are uniform over a range."""
        return low + (high - low) * torch.rand(self.batch, generator=self.generator, device=self.generator.device)

    def log_uniform(self, low: float, high: float) -> Float[Tensor, "batch"]:
        """Return values whose logarithm is uniform: half is as likely as double."""
        return torch.exp(self.uniform(math.log(low), math.log(high)))

    def bernoulli(self, probability: float) -> Bool[Tensor, "batch"]:
        """Return values that are true with a probability."""
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Return values of a standard normal distribution, an array of this shape for each image."""
        return torch.randn(self.batch, *shape, generator=self.generator, device=self.generator.device)


def seeded_generator(seed: int, number: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return generator `number` of a seed; neighbouring seeds and numbers are unrelated, since multipliers mix the two."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**63
    return torch.Generator(device).manual_seed(mixed)
