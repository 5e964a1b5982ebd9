"""The warnings about missing input: images without CameraInfo, CameraInfo without images, and stamps that differ."""

import time


class InputMonitor:
    """Detects images without CameraInfo and CameraInfo without images, and advises what to do.

    The first is the most common mistake when setting up the node. The second is a symptom of DDS losing large images. Without
    this check, both would go unnoticed.
    """

    def __init__(self, timeout_s: float, image_topic: str, info_topic: str) -> None:
        self._timeout_s = timeout_s
        self._topics = (image_topic, info_topic)
        self._begin_s = time.monotonic()
        self._images = self._infos = self._pairs = 0
        self._last_image_s = time.monotonic()
        self.warning = ""

    def seconds_without_image(self) -> float:
        """Return the time in s since the last image, or since the beginning if there was none."""
        return time.monotonic() - self._last_image_s

    def count_image(self) -> None:
        """Count an image."""
        self._images += 1
        self._last_image_s = time.monotonic()

    def count_info(self) -> None:
        """Count a CameraInfo."""
        self._infos += 1

    def count_pair(self) -> None:
        """Count a pair of an image and its CameraInfo."""
        self._pairs += 1

    def check(self) -> bool:
        """Update `warning` at the end of each window and return whether there is a new one; no input at all is not a fault."""
        if time.monotonic() - self._begin_s < self._timeout_s:
            return False
        self.warning = self._describe_problem()
        self._images = self._infos = self._pairs = 0
        self._begin_s = time.monotonic()
        return bool(self.warning)

    def _describe_problem(self) -> str:
        image_topic, info_topic = self._topics
        counts = f"for {self._timeout_s:g} s (images {self._images}, infos {self._infos}, pairs {self._pairs})"
        if self._pairs or not (self._images or self._infos):
            return ""
        if not self._infos:
            advice = "publish it with the image's stamp, or remap camera_info"
            return f"{image_topic} has no CameraInfo on {info_topic} {counts}; {advice}"
        if not self._images:
            return (
                f"CameraInfo arrives on {info_topic} but no image on {image_topic} {counts}; if images are published, they are "
                "lost in transport: use the Fast DDS profile of this package, or qos.image: reliable"
            )
        return f"images and CameraInfo never have the same stamp {counts}; the driver must give both the time of exposure"
