"""X-rays: files and messages as `XrayImage`, and preprocessing to attenuation with a mask."""

from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, PreprocessOptions, preprocess
from fluoro_reg.xray.reader import frame_times_ns, n_frames, read_cine, read_xray, xray_from_pixels
from fluoro_reg.xray.resample import resample

__all__ = [
    "Intensity",
    "PreprocessOptions",
    "Preprocessed",
    "XrayImage",
    "frame_times_ns",
    "n_frames",
    "preprocess",
    "read_cine",
    "read_xray",
    "resample",
    "xray_from_pixels",
]
