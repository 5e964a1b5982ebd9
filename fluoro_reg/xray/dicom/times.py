"""Times of the frames of a DICOM cine, relative to the first frame.

They come from FrameTimeVector (ms from the previous frame; its first value is ignored), else FrameTime (ms), else CineRate
(frames per second). These are nominal times. Dates and clock times are not read, because they identify a patient. A file
without times, or with times that do not increase, gets `DEFAULT_RATE_HZ`, which only distinguishes the frames. Source: DICOM
PS3.3, C.7.6.5.
"""

import numpy as np
from pydicom.dataset import Dataset

from fluoro_reg.xray.dicom.geometry import numbers

DEFAULT_RATE_HZ = 15.0


def frame_times_ns(dataset: Dataset, count: int) -> list[int]:
    """Return one time per frame in ns, strictly increasing from 0."""
    vector = numbers(dataset.get("FrameTimeVector"), count)
    if count > 1 and vector is not None and min(vector[1:]) > 0:
        return [round(1e6 * time_ms) for time_ms in np.cumsum([0.0, *vector[1:]])]
    time_ms, rate_hz = (numbers(dataset.get(keyword), 1) for keyword in ("FrameTime", "CineRate"))
    if time_ms is not None and time_ms[0] > 0:
        return [round(1e6 * time_ms[0] * n) for n in range(count)]
    nominal_hz = rate_hz[0] if rate_hz is not None and rate_hz[0] > 0 else DEFAULT_RATE_HZ
    return [round(1e9 * n / nominal_hz) for n in range(count)]
