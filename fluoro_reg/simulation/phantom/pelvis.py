"""The bones of a pelvis as constructive solid geometry: position and size of each part, and its variation between people.

Coordinates are mm from the midpoint of the femoral heads of an adult: x to the left, y posterior, z superior. Each side is
modelled as a left side and mirrored. A small random affine map then distorts each side, so that no pelvis is symmetric and a
mirrored X-ray differs from the true one. Proportions are taken from Standring, "Gray's Anatomy" (pelvic girdle, vertebral
column) and Lewinnek et al. 1978 (inclination of the acetabulum).
"""

from dataclasses import dataclass

import numpy as np

from fluoro_reg.simulation.phantom.solids import (
    CsgOperation,
    CsgStep,
    CurvedPlate,
    CutBall,
    EllipticCylinder,
    Point,
    Tube,
    tilted_axes,
)

HEAD_CENTRE: Point = (88.0, 0.0, 0.0)
HEAD_RADIUS = 23.5
SOCKET_RADIUS = 26.8
SOCKET_OPENING: Point = (0.75, -0.27, -0.60)
_SACRUM_TILT = 40.0


@dataclass(frozen=True, slots=True)
class Bone:
    """One bone: its shape, the thickness of its cortical shell (mm), its densities (HU) and the joint space around it (mm).

    A long bone has a medullary `canal`. Below the first point of the canal, the bone is cortical except for the canal.
    """

    name: str
    steps: list[CsgStep]
    shell_mm: float = 2.0
    cortical_hu: float = 1050.0
    marrow_hu: float = 260.0
    joint_mm: float = 2.5
    canal: Tube | None = None


@dataclass(frozen=True, slots=True)
class BodyShape:
    """Sex, size and asymmetry of one person; `generator` gives the random part of the shape."""

    female: bool
    scale: float
    asymmetry: float
    generator: np.random.Generator

    def side(self, side: int) -> "Side":
        """Return the left (+1) or right (-1) half, with its own random affine distortion."""
        g = self.generator
        affine = np.eye(3) + self.asymmetry * 0.018 * g.standard_normal((3, 3))
        return Side(self, side, affine)


@dataclass(frozen=True, slots=True)
class Side:
    """Maps control points of a standard left half to the left or right half of a person."""

    shape: BodyShape
    side: int
    affine: np.ndarray

    def point(self, *point: float) -> Point:
        """Map one point."""
        x, y, z = self.points(np.array([point]))[0].tolist()
        return x, y, z

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points [..., 3] by sex, affine distortion, side and scale; the distortion vanishes on the midline."""
        p = np.array(points, dtype=float)
        if self.shape.female:
            below = np.clip(-p[..., 2] / 70, 0, 1)
            p[..., 0] *= 1.02 + 0.10 * below
            p[..., 2] *= 0.96
        bent = p @ self.affine.T
        midline = np.clip(np.abs(p[..., :1]) / 40, 0, 1)
        p = p + midline * (bent - p)
        return p * np.array([self.side, 1, 1]) * self.shape.scale

    def radius(self, value: float) -> float:
        """Scale a thickness with the person's size."""
        return value * self.shape.scale

    def tube(self, *knots: tuple[float, float, float, float]) -> Tube:
        """Return a tube through (x, y, z, radius) knots."""
        return Tube(tuple(self.point(*knot[:3]) for knot in knots), tuple(self.radius(knot[3]) for knot in knots))


# The iliac wing: rows from the acetabulum to the crest, columns from the anterior spines backwards; x, y, z, half thickness.
_ILIAC_WING = np.array(
    [
        [[96, -33, 33, 9], [95, -10, 34, 10], [86, 16, 36, 10], [72, 38, 40, 9], [60, 60, 46, 8], [50, 76, 48, 7]],
        [[104, -40, 56, 6], [108, -16, 58, 5], [101, 14, 62, 4.5], [84, 41, 66, 6], [64, 66, 66, 8], [50, 82, 64, 7]],
        [[115, -47, 80, 5], [124, -22, 88, 2.6], [117, 12, 92, 1.9], [96, 44, 92, 3.2], [70, 70, 86, 7], [50, 88, 78, 7]],
        [
            [120, -48, 92, 5.5],
            [135, -24, 112, 3.2],
            [130, 10, 120, 2.2],
            [106, 46, 116, 3.2],
            [76, 72, 102, 6.5],
            [51, 90, 88, 7],
        ],
        [[122, -46, 98, 6], [141, -25, 126, 6.5], [138, 9, 144, 5], [112, 47, 137, 5.5], [80, 73, 117, 7], [53, 90, 97, 7]],
    ]
)


def innominate(side: Side, name: str) -> Bone:
    """Return ilium, ischium and pubis of one side."""
    s = side
    wing = CurvedPlate(s.points(_ILIAC_WING[..., :3]), _ILIAC_WING[..., 3] * s.shape.scale)
    cup = CutBall(s.point(*HEAD_CENTRE), s.radius(34), _mirrored(SOCKET_OPENING, s.side), s.radius(5.0))
    steps = [
        CsgStep(wing, blend=3),
        CsgStep(s.tube((52, 62, 62, 9), (66, 46, 46, 9), (78, 20, 34, 9), (74, -12, 18, 8)), blend=8),  # arcuate line
        CsgStep(s.tube((97, -35, 34, 8), (99, -38, 42, 6)), blend=6),  # anterior inferior spine
        CsgStep(cup, blend=8),
        CsgStep(s.tube((76, 36, 36, 8), (80, 30, 12, 12), (80, 24, -14, 12)), blend=8),  # posterior column
        CsgStep(s.tube((68, 34, 8, 5), (58, 44, 6, 4), (52, 48, 5, 2)), blend=4),  # ischial spine
        CsgStep(s.tube((82, 16, -20, 13), (74, 28, -42, 11), (64, 28, -66, 12.5), (58, 16, -76, 9)), blend=6),  # ischium
        CsgStep(s.tube((58, 14, -75, 8), (40, -10, -66, 5.5), (24, -30, -50, 5.5), (12, -42, -36, 7)), blend=5),  # lower ramus
        CsgStep(s.tube((78, -16, 12, 11), (58, -34, 8, 7.5), (36, -47, -1, 6.5), (16, -53, -10, 8)), blend=6),  # upper ramus
        CsgStep(s.tube((10.5, -54, -10, 7.5), (10, -50, -24, 8), (10, -44, -36, 7)), blend=5),  # body of the pubis
        CsgStep(s.tube((24, -54, -5, 5)), blend=4),  # pubic tubercle
        CsgStep(Tube((s.point(*HEAD_CENTRE),), (s.radius(SOCKET_RADIUS),)), CsgOperation.DIFFERENCE, 1.5),
        CsgStep(s.tube((80, 2, -10, 14), (90, -4, -34, 15)), CsgOperation.DIFFERENCE, 3),  # acetabular notch
        CsgStep(s.tube((0, -60, 4, 2.2), (0, -48, -24, 2.6), (0, -38, -48, 2.6)), CsgOperation.DIFFERENCE, 1),  # symphysis
    ]
    return Bone(name, steps, s.radius(2.0), cortical_hu=1150, marrow_hu=280)


def femur(side: Side, name: str) -> Bone:
    """Return the head, neck, trochanters and proximal shaft of a femur."""
    s = side
    steps = [
        CsgStep(s.tube((*HEAD_CENTRE, HEAD_RADIUS)), blend=3),
        CsgStep(s.tube((96, 1, -8, 17), (108, 4, -20, 15.5), (124, 8, -36, 18)), blend=8),  # neck
        CsgStep(s.tube((131, 10, -42, 17), (136, 13, -22, 15), (138, 18, -6, 11)), blend=9),  # greater trochanter
        CsgStep(s.tube((128, 8, -50, 19), (128, 8, -75, 16.5), (124, 4, -110, 15), (112, -4, -220, 14)), blend=10),  # shaft
        CsgStep(s.tube((122, 14, -64, 11), (113, 21, -63, 6.5)), blend=8),  # lesser trochanter
    ]
    canal = s.tube((127, 8, -62, 16), (127, 7, -80, 10), (125, 5, -105, 8), (112, -4, -220, 7))
    return Bone(name, steps, s.radius(2.1), cortical_hu=1200, marrow_hu=260, joint_mm=2.0, canal=canal)


_SACRAL_ROWS = (  # y, z, half width of the wing, half thickness in the middle and at the wing, posterior bow of the wing
    (40, 106, 50, 14, 8, 12),
    (47, 92, 54, 14, 12, 12),
    (60, 70, 50, 12, 11, 8),
    (72, 47, 40, 10, 8, 3),
    (78, 25, 31, 8, 6, 0),
    (74, 4, 20, 6.5, 4, -2),
)


def sacrum(left: Side, right: Side) -> Bone:
    """Return the sacrum with the coccyx: a curved plate with a thick first body, paired foramina, a canal and a crest."""
    columns = np.linspace(-1, 1, 9)
    rows = []
    for y, z, width, middle, wing, bow in _SACRAL_ROWS:
        half = wing + (middle - wing) * np.clip(1 - (columns / 0.75) ** 2, 0, 1)
        rows.append(np.stack([columns * width, y + bow * columns**2, np.full(9, z), half], axis=-1))
    table = np.array(rows)
    points = _both_sides(table[..., :3], left, right)
    scale = left.shape.scale
    axes = tilted_axes(_SACRUM_TILT)
    canal = left.tube((0, 62, 110, 9), (0, 70, 88, 8), (0, 82, 62, 6), (0, 86, 40, 4))
    steps = [
        CsgStep(CurvedPlate(points, table[..., 3] * scale), blend=3),
        CsgStep(EllipticCylinder(left.point(0, 39, 100), (25 * scale, 16 * scale, 15 * scale), axes), blend=6),
        CsgStep(left.tube((0, 72, 102, 4), (0, 86, 84, 5), (0, 95, 60, 4.5), (0, 93, 36, 4), (0, 84, 12, 3)), blend=6),  # crest
        CsgStep(left.tube((0, 72, 0, 7), (0, 68, -8, 5.5), (0, 60, -18, 4.5), (0, 50, -25, 3)), blend=4),  # coccyx
        CsgStep(canal, CsgOperation.DIFFERENCE, 2),
    ]
    for side in (left, right):
        steps.append(CsgStep(side.tube((17, 64, 104, 5), (18, 62, 118, 5)), blend=4))  # superior articular process
        for x, y, z, radius in ((25, 54, 81, 6.0), (22, 67, 58, 5.5), (19, 75, 36, 5.0), (15, 77, 16, 4.0)):
            hole = side.tube((x, y - 20, z - 7, radius + 1), (x - 1, y, z, radius), (x - 3, y + 22, z + 6, radius * 0.75))
            steps.append(CsgStep(hole, CsgOperation.DIFFERENCE, 2))
    return Bone("sacrum", steps, shell_mm=1.8 * scale, cortical_hu=1000, marrow_hu=250)


def vertebra(left: Side, right: Side, name: str, centre: Point, tilt: float) -> Bone:
    """Return a lumbar vertebra: body, pedicles, laminae, transverse, articular and spinous processes."""
    scale, g = left.shape.scale, left.shape.generator
    lateral_bend, axial_rotation = left.shape.asymmetry * g.normal(0, 1.5, 2)
    axes = tilted_axes(tilt, axial_rotation, lateral_bend)
    origin = np.array(left.point(*centre))

    def tube(side: int, *knots: tuple[float, float, float, float]) -> Tube:
        points = [origin + axes @ (np.array([side * x, y, z]) * scale) for x, y, z, _ in knots]
        return Tube(tuple(tuple(p.tolist()) for p in points), tuple(r * scale for *_, r in knots))

    body = EllipticCylinder(tuple(origin.tolist()), (25.5 * scale, 17.5 * scale, 13.5 * scale), axes, waist=0.14)
    steps = [CsgStep(body, blend=2), CsgStep(tube(1, (0, 44, -4, 4), (0, 58, -9, 4)), blend=4)]
    for height in (-5.0, -11.0, -16.0):  # the spinous process is a tall thin plate
        steps.append(CsgStep(tube(1, (0, 46, height + 2, 3), (0, 70, height - 2, 3.6)), blend=3))
    for side in (1, -1):
        reach = 41 + left.shape.asymmetry * g.normal(0, 2)
        steps += [
            CsgStep(tube(side, (14, 12, 5, 5.5), (16, 28, 4, 5)), blend=4),  # pedicle
            CsgStep(tube(side, (17, 27, 4, 5), (30, 31, 6, 3.6), (reach, 33, 8, 3.2)), blend=4),  # transverse process
            CsgStep(tube(side, (16, 30, 2, 5), (9, 40, -5, 4.5), (0, 46, -8, 4.5)), blend=4),  # lamina
            CsgStep(tube(side, (17, 31, 4, 5), (19, 31, 17, 5.5)), blend=4),  # superior articular process
            CsgStep(tube(side, (13, 38, -6, 5), (13.5, 40, -21, 5)), blend=4),  # inferior articular process
        ]
    return Bone(name, steps, shell_mm=1.7 * scale, cortical_hu=950, marrow_hu=250, joint_mm=2.0)


def pelvic_bones(shape: BodyShape) -> tuple[list[Bone], dict[str, Point]]:
    """Return all bones and named landmarks. At a joint, earlier bones of the list keep their full shape."""
    left, right = shape.side(1), shape.side(-1)
    lumbar = [("L5", (0.0, 22.0, 133.0), 22.0), ("L4", (0.0, 10.0, 169.0), 8.0), ("L3", (0.0, 7.0, 207.0), 0.0)]
    spine = [vertebra(left, right, *parameters) for parameters in lumbar]
    femurs = [femur(left, "femur_left"), femur(right, "femur_right")]
    hips = [innominate(left, "hip_left"), innominate(right, "hip_right")]
    return [sacrum(left, right), *femurs, *spine, *hips], _landmarks(left, right)


def _landmarks(left: Side, right: Side) -> dict[str, Point]:
    paired = {
        "anterior_superior_iliac_spine": (121, -50, 95),
        "iliac_crest_top": (138, 9, 147),
        "posterior_superior_iliac_spine": (52, 92, 92),
        "femoral_head_centre": HEAD_CENTRE,
        "greater_trochanter_tip": (139, 19, 4),
        "ischial_tuberosity": (62, 24, -76),
        "pubic_tubercle": (24, -56, -4),
        "ischial_spine": (51, 48, 5),
    }
    sides = {f"{name}_{side}": s.point(*p) for name, p in paired.items() for side, s in (("left", left), ("right", right))}
    midline = {"pubic_symphysis": (0, -50, -23), "sacral_promontory": (0, 21, 108), "coccyx_tip": (0, 49, -27)}
    return {**sides, **{name: left.point(*p) for name, p in midline.items()}}


def _both_sides(points: np.ndarray, left: Side, right: Side) -> np.ndarray:
    folded = points * np.array([np.nan, 1, 1])
    folded[..., 0] = np.abs(points[..., 0])
    return np.where(points[..., :1] >= 0, left.points(folded), right.points(folded))


def _mirrored(vector: Point, side: int) -> Point:
    return side * vector[0], vector[1], vector[2]
