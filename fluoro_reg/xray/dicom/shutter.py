"""The field that the display shutter and the collimator of a DICOM file leave open.

Edges, centres and vertices are given in rows and columns of the stored image, counted from 1; vertices and centres as row, then
column (DICOM PS3.3, C.7.6.11 and C.8.7.3). A shape without any open pixel, as in files that contain zeros, is ignored.
"""

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from fluoro_reg.xray.dicom.geometry import lookup, numbers


def open_field(dataset: Dataset, shape: tuple[int, ...], frame: int) -> Bool[np.ndarray, "height width"]:
    """Return True inside all shutter and collimator shapes of the file."""
    field = np.ones(shape[:2], dtype=bool)
    for kind in ("Shutter", "Collimator"):
        for mask in _open_shapes(dataset, kind, field.shape, frame):
            if mask.any():
                field &= mask
    return field


def _open_shapes(dataset: Dataset, kind: str, shape: tuple[int, ...], frame: int) -> list[Bool[np.ndarray, "height width"]]:
    value = lookup(dataset, f"{kind}Shape", frame) or ()
    shapes = [value] if isinstance(value, str) else list(value)
    draw_functions = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
    drawn = [draw_functions[name](dataset, kind, shape, frame) for name in shapes if name in draw_functions]
    return [mask for mask in drawn if mask is not None]


def _rectangle(dataset: Dataset, kind: str, shape: tuple[int, ...], frame: int) -> Bool[np.ndarray, "height width"] | None:
    sides = ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
    edges = [numbers(lookup(dataset, f"{kind}{side}", frame), 1) for side in sides]
    if any(edge is None for edge in edges):
        return None
    left, right, upper, lower = (edge[0] - 1 for edge in edges if edge is not None)
    row, column = np.ogrid[: shape[0], : shape[1]]
    return (column >= left) & (column <= right) & (row >= upper) & (row <= lower)


def _circle(dataset: Dataset, kind: str, shape: tuple[int, ...], frame: int) -> Bool[np.ndarray, "height width"] | None:
    centre = numbers(lookup(dataset, f"CenterOfCircular{kind}", frame), 2)
    radius = numbers(lookup(dataset, f"RadiusOfCircular{kind}", frame), 1)
    if centre is None or radius is None:
        return None
    row, column = np.ogrid[: shape[0], : shape[1]]
    return (row - (centre[0] - 1)) ** 2 + (column - (centre[1] - 1)) ** 2 <= radius[0] ** 2


def _polygon(dataset: Dataset, kind: str, shape: tuple[int, ...], frame: int) -> Bool[np.ndarray, "height width"] | None:
    value = lookup(dataset, f"VerticesOfThePolygonal{kind}", frame)
    flat = None if value is None or isinstance(value, (int, float, str)) else numbers(value, len(value))
    if flat is None or len(flat) < 6 or len(flat) % 2:
        return None
    canvas = Image.new("L", (shape[1], shape[0]), 0)
    ImageDraw.Draw(canvas).polygon([(flat[i + 1] - 1, flat[i] - 1) for i in range(0, len(flat), 2)], fill=1, outline=1)
    return np.asarray(canvas, dtype=bool)
