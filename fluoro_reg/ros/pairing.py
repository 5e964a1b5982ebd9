"""Pair each image with the CameraInfo of the same stamp, whichever arrives first.

message_filters is not used: its Python synchroniser calls the user's callback while it holds its lock, and the ROS wheels do
not include it. For equal stamps, two bounded dictionaries are enough; newer arrivals push out messages without a partner.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

Image = TypeVar("Image")
Info = TypeVar("Info")


class StampPairing(Generic[Image, Info]):
    """Pairs by equal stamp; keeps the newest unpaired messages, fewer images than infos because images are large."""

    def __init__(self, max_images: int = 4, max_infos: int = 64) -> None:
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._infos: OrderedDict[int, Info] = OrderedDict()
        self._max_images = max_images
        self._max_infos = max_infos
        self.unpaired_images = 0

    def add_image(self, stamp_ns: int, image: Image) -> tuple[Image, Info] | None:
        """Return the pair that the image completes, or store the image and return None."""
        info = self._infos.pop(stamp_ns, None)
        if info is not None:
            return image, info
        self._images[stamp_ns] = image
        if len(self._images) > self._max_images:
            self._images.popitem(last=False)
            self.unpaired_images += 1
        return None

    def add_info(self, stamp_ns: int, info: Info) -> tuple[Image, Info] | None:
        """Return the pair that the CameraInfo completes, or store it and return None."""
        image = self._images.pop(stamp_ns, None)
        if image is not None:
            return image, info
        self._infos[stamp_ns] = info
        if len(self._infos) > self._max_infos:
            self._infos.popitem(last=False)
        return None
