"""Image and CameraInfo of the same stamp, whichever comes first.

message_filters is not used: its Python synchroniser calls the user while it holds its lock, and it is not among the ROS
wheels. Equal stamps need no more than two bounded dictionaries; what never finds its partner is pushed out by newer arrivals.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

Image = TypeVar("Image")
Info = TypeVar("Info")


class StampPairing(Generic[Image, Info]):
    """Keeps the newest unpaired images and infos; few images, since they are large."""

    def __init__(self, waiting_images: int = 4, waiting_infos: int = 64) -> None:
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._infos: OrderedDict[int, Info] = OrderedDict()
        self._limits = (waiting_images, waiting_infos)
        self.unpaired_images = 0

    def add_image(self, stamp_ns: int, image: Image) -> tuple[Image, Info] | None:
        """The pair that this image completes; else the image waits."""
        info = self._infos.pop(stamp_ns, None)
        if info is not None:
            return image, info
        self._images[stamp_ns] = image
        if len(self._images) > self._limits[0]:
            self._images.popitem(last=False)
            self.unpaired_images += 1
        return None

    def add_info(self, stamp_ns: int, info: Info) -> tuple[Image, Info] | None:
        """The pair that this info completes; else the info waits."""
        image = self._images.pop(stamp_ns, None)
        if image is not None:
            return image, info
        self._infos[stamp_ns] = info
        if len(self._infos) > self._limits[1]:
            self._infos.popitem(last=False)
        return None
