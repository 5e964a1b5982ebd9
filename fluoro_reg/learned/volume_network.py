"""From a CT's bone to a volume of several channels that are worth projecting, as in ProST: the bone itself plus a small change.

It runs once a CT. There is neither a bias nor a normalisation, so where no bone is near the channels are zero: air that had a
value would draw the edges of the CT's box into every projection.
"""

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
            layers += [nn.Conv3d(before, after, 3, padding=1, bias=False), nn.SiLU()]
        self.change = nn.Sequential(*layers, nn.Conv3d(_WIDTHS[-1], channels, 3, padding=1, bias=False))

    def forward(self, bone: Float[Tensor, "slices rows columns"]) -> Float[Tensor, "channels slices rows columns"]:
        return bone.expand(self.channels, *bone.shape) + self.change(bone[None, None])[0]
