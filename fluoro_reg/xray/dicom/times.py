"""When the frames of a DICOM cine were taken, counted from the first one.

FrameTimeVector (ms from the frame before; the first counts for nothing), else FrameTime (ms), else CineRate (frames per
second). These are the cine's nominal times; dates and clock times are not read, for they belong to a person. A file that tells
none, or times that do not grow, gets `DEFAULT_RATE_HZ`, which tells frames apart and measures nothing.
Source: DICOM PS3.3, C.7.6.5.
"""

import numpy as np
from pydicom.dataset import Dataset

from fluoro_reg.xray.dicom.geometry import numbers

DEFAULT_RATE_HZ = 15.0


def frame_times_ns(dataset: Dataset, count: int) -> list[int]:
    """One time a frame, the first 0, strictly increasing."""
    vector = numbers(dataset.get("FrameTimeVector"), count)
    if count > 1 and vector is not None and min(vector[1:]) > 0:
        return [round(1e6 * time_ms) for time_ms in np.cumsum([0.0, *vector[1:]])]
    time_ms, rate_hz = (numbers(dataset.get(keyword), 1) for keyword in ("FrameTime", "CineRate"))
    if time_ms is not None and time_ms[0] > 0:
        return [round(1e6 * time_ms[0] * n) for n in range(count)]
    told_hz = rate_hz[0] if rate_hz is not None and rate_hz[0] > 0 else DEFAULT_RATE_HZ
    return [round(1e9 * n / told_hz) for n in range(count)]
