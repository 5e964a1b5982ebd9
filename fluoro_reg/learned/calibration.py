"""Calibration of a learned similarity: its values as distances between poses in mm.

A descent needs only the direction of the gradient. Levenberg-Marquardt needs more: a squared length that grows with the squared
distance between poses. Training an embedding towards such distances also gives its gradient the right direction, without second
derivatives.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_ROOT_SMOOTHING = 1e-3  # smooths the square root of a value at zero


class Calibration(nn.Module):
    """A learned factor between the square root of a value and the distance between poses (mm).

    The loss is in mm. In the unit of the value it would vanish for an encoder that maps all images to the same embedding.
    """

    def __init__(self, per_mm: float = 0.02, huber_mm: float = 5.0) -> None:
        super().__init__()
        self.log_per_mm = nn.Parameter(torch.tensor(per_mm).log())
        self.huber_mm = huber_mm

    def distance_mm(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the predicted distance between the poses; it is 0 for a value of 0 and grows with the value."""
        root = (values + _ROOT_SMOOTHING**2).sqrt() - _ROOT_SMOOTHING
        return root * torch.exp(-self.log_per_mm)

    def loss_mm(self, values: Float[Tensor, "*batch"], pose_distance_mm: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the Huber loss of the predicted distance, divided by its threshold.

        For large errors it is the error in mm less half the threshold.
        """
        predicted = self.distance_mm(values)
        return nn.functional.huber_loss(predicted, pose_distance_mm, reduction="none", delta=self.huber_mm) / self.huber_mm
