"""From a CT's bone to a volume of several channels that are worth projecting, as in ProST: the bone itself plus a small change.

It runs once a CT. There is neither a bias nor a normalisation, so where no bone is near the channels are zero: air that had a
value would draw the edges of the CT's box into every projection.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_WIDTHS = (4, 8, 8)


class VolumeNetwork(nn.Module):
    """Four convolutions that see four voxels far."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        for before, after in zip((1, *_WIDTHS), _WIDTHS, strict=False):
            layers += [SliceConvolution(before, after), nn.SiLU()]
        self.change = nn.Sequential(*layers, SliceConvolution(_WIDTHS[-1], channels))

    def forward(self, bone: Float[Tensor, "slices rows columns"]) -> Float[Tensor, "channels slices rows columns"]:
        return bone.expand(self.channels, *bone.shape) + self.change(bone[:, None]).movedim(0, 1)


class SliceConvolution(nn.Module):
    """A convolution of 3 x 3 x 3 voxels without a bias, as one of images whose channels are those of three slices.

    torch's own for volumes takes four times as long on a CPU where channels are few.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.planes = nn.Conv2d(3 * channels_in, channels, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "slices c rows columns"]) -> Float[Tensor, "slices d rows columns"]:
        padded = nn.functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
        return self.planes(torch.cat([padded[:-2], padded[1:-1], padded[2:]], dim=1))
