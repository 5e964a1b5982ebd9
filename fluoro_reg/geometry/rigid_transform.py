"""`RigidTransform`: a rotation and a translation, with any batch dimensions. Variables are named `target_from_source`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.arrays import arrays_of
from fluoro_reg.errors import InputError


@dataclass(frozen=True, slots=True)
class RigidTransform:
    """Maps source coordinates to target coordinates: `x_target = rotation @ x_source + translation` (mm).

    Example:
        >>> import torch
        >>> shift = torch.tensor([0.0, 0.0, 700.0], dtype=torch.float64)
        >>> camera_from_patient = RigidTransform(torch.eye(3, dtype=torch.float64), shift)
        >>> camera_from_patient.apply(torch.zeros(1, 3, dtype=torch.float64)).tolist()
        [[0.0, 0.0, 700.0]]
        >>> (camera_from_patient @ camera_from_patient.inverse()).translation.tolist()
        [0.0, 0.0, 0.0]
    """

    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    def __matmul__(self, other: "RigidTransform") -> "RigidTransform":
        """Return the product: `c_from_b @ b_from_a = c_from_a`."""
        rotation = self.rotation @ other.rotation
        translation = (self.rotation @ other.translation[..., None]).squeeze(-1) + self.translation
        return RigidTransform(rotation, translation)

    def inverse(self) -> "RigidTransform":
        """Return `source_from_target`."""
        rotation = self.rotation.mT
        return RigidTransform(rotation, -(rotation @ self.translation[..., None]).squeeze(-1))

    def apply(self, points: Float[Tensor, "... n 3"]) -> Float[Tensor, "... n 3"]:
        """Map points from source to target coordinates (mm); the batch dimensions of both are broadcast."""
        plain = arrays_of(points, self.rotation, self.translation)
        if plain is not None:
            return torch.from_numpy(plain[0] @ plain[1].swapaxes(-1, -2) + plain[2][..., None, :])
        return points @ self.rotation.mT + self.translation[..., None, :]

    def matrix(self) -> Float[Tensor, "*batch 4 4"]:
        """Return the homogeneous 4 x 4 matrix."""
        top = torch.cat([self.rotation, self.translation[..., None]], dim=-1)
        bottom = torch.zeros_like(top[..., :1, :])
        bottom[..., 0, 3] = 1
        return torch.cat([top, bottom], dim=-2)

    def to(self, *args: Any, **kwargs: Any) -> "RigidTransform":
        """Convert the dtype or device, as `Tensor.to` does."""
        return RigidTransform(self.rotation.to(*args, **kwargs), self.translation.to(*args, **kwargs))

    def __getitem__(self, index: Any) -> "RigidTransform":
        """Return elements of the batch."""
        return RigidTransform(self.rotation[index], self.translation[index])

    @staticmethod
    def identity(dtype: torch.dtype = torch.float64) -> "RigidTransform":
        return RigidTransform(torch.eye(3, dtype=dtype), torch.zeros(3, dtype=dtype))

    @staticmethod
    def cat(batches: "Sequence[RigidTransform]") -> "RigidTransform":
        """Concatenate batches."""
        return RigidTransform(torch.cat([b.rotation for b in batches]), torch.cat([b.translation for b in batches]))

    @staticmethod
    def stack(transforms: "list[RigidTransform]") -> "RigidTransform":
        """Stack transforms into a batch."""
        rotations = torch.stack([t.rotation for t in transforms])
        return RigidTransform(rotations, torch.stack([t.translation for t in transforms]))

    @staticmethod
    def from_matrix(matrix: Any, name: str = "the pose") -> "RigidTransform":
        """Create a float64 transform from a 4 x 4 matrix (nested lists, array or tensor).

        A matrix that is rigid to 1e-3, such as a rounded one from a text file, is projected to the nearest rotation.

        Args:
            matrix: The 4 x 4 matrix, translation in mm.
            name: Name of the matrix in error messages.

        Raises:
            InputError: The matrix has another shape, contains NaN, is not rigid, or is a reflection.
        """
        try:
            m = torch.as_tensor(matrix, dtype=torch.float64)
        except OverflowError as error:
            raise InputError(f"{name} contains a number that is too large; give mm") from error
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name} must be a 4 x 4 matrix of numbers") from error
        if m.shape != (4, 4):
            raise InputError(f"{name} must be a 4 x 4 matrix, got shape {tuple(m.shape)}")
        if not torch.isfinite(m).all():
            raise InputError(f"{name} contains NaN or infinite numbers; give finite ones")
        if (m[3] - torch.tensor([0.0, 0.0, 0.0, 1.0])).abs().max() > 1e-6:
            raise InputError(f"{name} must have the last row 0 0 0 1; check whether the matrix is transposed")
        rotation = m[:3, :3]
        if (rotation @ rotation.mT - torch.eye(3)).abs().max() > 1e-3:
            raise InputError(f"{name} is not rigid: its upper left 3 x 3 block must be a rotation without scale or shear")
        if torch.linalg.det(rotation) < 0:
            raise InputError(f"{name} is a reflection, not a rotation; mirror the pixels of the image instead")
        u, _, vh = torch.linalg.svd(rotation)
        return RigidTransform(u @ vh, m[:3, 3].clone())
