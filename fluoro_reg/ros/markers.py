"""Markers for RViz (`~/markers`): boxes of the CT and of its bodies, and the viewing pyramid of the camera.

The pyramid reaches from the focal spot to the detector. Every accepted body has a box of its colour in its own frame. The box
of one that is no longer accepted is deleted: RViz would leave it where it was last seen.
"""

import itertools
from collections.abc import Sequence

import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from jaxtyping import Float
from std_msgs.msg import ColorRGBA, Header
from torch import Tensor
from visualization_msgs.msg import Marker, MarkerArray

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.overlay import colour_of
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.ros.conversions import M_PER_MM

DEFAULT_SOURCE_TO_DETECTOR_MM = 1000.0  # CameraInfo does not contain the distance of the detector
LINE_WIDTH_M = 0.002
CT_COLOUR, CAMERA_COLOUR = (0.2, 0.8, 1.0), (1.0, 0.8, 0.2)
_BOX_EDGES = [(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b).bit_count() == 1]
_PYRAMID_EDGES = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 4), (4, 3), (3, 1)]


def scene_markers(volume: CTVolume, intrinsics: CameraIntrinsics, camera_frame: str, patient_frame: str) -> MarkerArray:
    """Return the outlines of the CT and the camera; RViz places them with the newest transform on tf2."""
    return MarkerArray(
        markers=[
            _line_list("ct", patient_frame, _box_corners(volume), _BOX_EDGES, CT_COLOUR),
            _line_list("camera", camera_frame, _pyramid_corners(intrinsics), _PYRAMID_EDGES, CAMERA_COLOUR),
        ]
    )


def body_markers(bodies: Sequence[Body], result: RegistrationResult) -> list[Marker]:
    """Return the box of every accepted body of a result, and the deletion of all others."""
    markers = []
    for number, body in enumerate(bodies):
        corners = _box_corners(body.reading.renderers.volume)
        red, green, blue = (level / 255 for level in colour_of(number))
        marker = _line_list(f"body {body.name}", body.frame, corners, _BOX_EDGES, (red, green, blue))
        if not result.bodies[body.name].accepted:
            marker.action, marker.points = Marker.DELETE, []
        markers.append(marker)
    return markers


def _box_corners(volume: CTVolume) -> Float[Tensor, "8 3"]:
    """Return the outer corners of the CT, patient frame, mm; corner n is at the far end of axis a if bit a of n is set."""
    ends = [(-0.5, size - 0.5) for size in volume.shape_ijk]
    corners = [[ends[axis][n >> axis & 1] for axis in range(3)] for n in range(8)]
    return volume.points_patient(torch.tensor(corners, dtype=torch.float64))


def _pyramid_corners(intrinsics: CameraIntrinsics) -> Float[Tensor, "5 3"]:
    depth = intrinsics.source_to_detector_mm or DEFAULT_SOURCE_TO_DETECTOR_MM
    corners = [[0.0, 0.0, 0.0]]
    for v, u in itertools.product((-0.5, intrinsics.height - 0.5), (-0.5, intrinsics.width - 0.5)):
        corners.append([(u - intrinsics.cx) / intrinsics.fx * depth, (v - intrinsics.cy) / intrinsics.fy * depth, depth])
    return torch.tensor(corners, dtype=torch.float64)


def _line_list(
    name: str,
    frame_id: str,
    corners_mm: Float[Tensor, "n 3"],
    edges: Sequence[tuple[int, int]],
    colour: tuple[float, float, float],
) -> Marker:
    marker = Marker(header=Header(stamp=Time(), frame_id=frame_id), ns=name, type=Marker.LINE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = LINE_WIDTH_M
    marker.color = ColorRGBA(r=colour[0], g=colour[1], b=colour[2], a=1.0)
    marker.frame_locked = True
    points = (corners_mm * M_PER_MM).tolist()
    marker.points = [Point(x=points[n][0], y=points[n][1], z=points[n][2]) for edge in edges for n in edge]
    return marker
