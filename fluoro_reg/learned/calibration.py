"""What a similarity's value says of how far the pose is off, in mm.

The direction of a gradient is all that a descent asks for. Levenberg-Marquardt asks for more, a squared length that grows as
the squared distance of the poses does; and an embedding in which distances are those of poses has the right gradients of its
own, which is a lesson that needs no second derivative.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_SMOOTH = 1e-3  # the root of a value is smoothed so much at zero


class Calibration(nn.Module):
    """The root of a value and the distance between poses (mm) are made proportional; the rate is learned with the encoder.

    The error is told in mm. Told in the value's own unit it would vanish for an encoder that sees no difference at all.
    """

    def __init__(self, per_mm: float = 0.02, huber_mm: float = 5.0) -> None:
        super().__init__()
        self.log_per_mm = nn.Parameter(torch.tensor(per_mm).log())
        self.huber_mm = huber_mm

    def millimetres(self, values: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The predicted distance between the poses; grows with the value, and both are zero together."""
        root = (values + _SMOOTH**2).sqrt() - _SMOOTH
        return root * torch.exp(-self.log_per_mm)

    def error(self, values: Float[Tensor, "*batch"], pose_distance_mm: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """How far the prediction is from the truth, mm: Huber's loss over its corner, so that far off it is the error less a
        constant.
        """
        predicted = self.millimetres(values)
        return nn.functional.huber_loss(predicted, pose_distance_mm, reduction="none", delta=self.huber_mm) / self.huber_mm
