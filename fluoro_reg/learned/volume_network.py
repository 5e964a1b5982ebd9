"""The 3-D network of ProST, which maps a CT's bone to a volume of several channels.

Each channel is the bone plus a learned residual. The network runs once for each CT. It has neither biases nor normalisation, so
the channels are zero where no bone is near: if air had a value, the edges of the CT's box would show in every projection.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_CHANNELS = (4, 8, 8)


class VolumeNetwork(nn.Module):
    """Four convolutions with a receptive field of four voxels to each side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        for before, after in zip((1, *_CHANNELS), _CHANNELS, strict=False):
            layers += [SliceConvolution(before, after), nn.SiLU()]
        self.residual = nn.Sequential(*layers, SliceConvolution(_CHANNELS[-1], channels))

    def forward(self, bone: Float[Tensor, "slices rows columns"]) -> Float[Tensor, "channels slices rows columns"]:
        return bone.expand(self.channels, *bone.shape) + self.residual(bone[:, None]).movedim(0, 1)


class SliceConvolution(nn.Module):
    """A 3 x 3 x 3 convolution without bias, computed as a 2-D convolution of three neighbouring slices.

    torch's 3-D convolution takes four times as long on a CPU when there are few channels.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3 * channels_in, channels, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "slices c rows columns"]) -> Float[Tensor, "slices d rows columns"]:
        padded = nn.functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
        return self.convolution(torch.cat([padded[:-2], padded[1:-1], padded[2:]], dim=1))
