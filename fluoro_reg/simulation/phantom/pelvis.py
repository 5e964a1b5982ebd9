"""The bones of a pelvis as strokes of solids: where each part lies, how thick it is, and what may differ between people.

Coordinates are mm about the midpoint of the femoral heads of a grown person: x to the left, y to the back, z to the head.
A side is modelled on the left and mirrored; each side is then stretched and turned a little at random, so that no pelvis is
symmetric and a mirrored X-ray can be told from the true one. Proportions after Standring, "Gray's Anatomy" (pelvic girdle,
vertebral column) and Lewinnek et al. 1978 (inclination of the acetabulum).
"""

from dataclasses import dataclass

import numpy as np

from fluoro_reg.simulation.phantom.solids import Action, CutBall, Drum, Point, Sheet, Stroke, Tube, tilt_about_x

HEAD_CENTRE: Point = (88.0, 0.0, 0.0)
HEAD_RADIUS = 23.5
SOCKET_RADIUS = 26.8
SOCKET_OPENING: Point = (0.75, -0.27, -0.60)
_SACRUM_TILT = 40.0


@dataclass(frozen=True, slots=True)
class Bone:
    """One bone: its strokes, the thickness of its cortical shell (mm), its densities (HU), and the joint space around it (mm).

    A long bone has a `canal`: below its first point the wall is solid but for it.
    """

    name: str
    strokes: list[Stroke]
    shell_mm: float = 2.0
    cortical_hu: float = 1050.0
    marrow_hu: float = 260.0
    joint_mm: float = 2.5
    canal: Tube | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """How one person differs from the next. `warp` is applied to every control point of a side."""

    female: bool
    scale: float
    asymmetry: float
    generator: np.random.Generator

    def side(self, side: int) -> "Side":
        """The left (+1) or right (-1) half, with its own small affine difference."""
        g = self.generator
        affine = np.eye(3) + self.asymmetry * 0.018 * g.standard_normal((3, 3))
        return Side(self, side, affine)


@dataclass(frozen=True, slots=True)
class Side:
    """Takes control points of the left half, in standard coordinates, to a person's left or right half."""

    build: Build
    side: int
    affine: np.ndarray

    def at(self, *point: float) -> Point:
        """One point."""
        x, y, z = self.many(np.array([point]))[0].tolist()
        return x, y, z

    def many(self, points: np.ndarray) -> np.ndarray:
        """An array of points [..., 3]: sex, side and person, then scale; the hip stays where the midline points meet it."""
        p = np.array(points, dtype=float)
        if self.build.female:
            below = np.clip(-p[..., 2] / 70, 0, 1)
            p[..., 0] *= 1.02 + 0.10 * below
            p[..., 2] *= 0.96
        bent = p @ self.affine.T
        midline = np.clip(np.abs(p[..., :1]) / 40, 0, 1)
        p = p + midline * (bent - p)
        return p * np.array([self.side, 1, 1]) * self.build.scale

    def radius(self, value: float) -> float:
        """A thickness, scaled with the person."""
        return value * self.build.scale

    def tube(self, *knots: tuple[float, float, float, float]) -> Tube:
        """A tube through (x, y, z, radius) knots."""
        return Tube(tuple(self.at(*knot[:3]) for knot in knots), tuple(self.radius(knot[3]) for knot in knots))


# The iliac blade: rows from the acetabulum to the crest, columns from front (the spines) to back; x, y, z, half thickness.
_BLADE = np.array(
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
    """Ilium, ischium and pubis of one side."""
    s = side
    blade = Sheet(s.many(_BLADE[..., :3]), _BLADE[..., 3] * s.build.scale)
    cup = CutBall(s.at(*HEAD_CENTRE), s.radius(34), _mirrored(SOCKET_OPENING, s.side), s.radius(5.0))
    strokes = [
        Stroke(blade, blend=3),
        Stroke(s.tube((52, 62, 62, 9), (66, 46, 46, 9), (78, 20, 34, 9), (74, -12, 18, 8)), blend=8),  # arcuate line
        Stroke(s.tube((97, -35, 34, 8), (99, -38, 42, 6)), blend=6),  # anterior inferior spine
        Stroke(cup, blend=8),
        Stroke(s.tube((76, 36, 36, 8), (80, 30, 12, 12), (80, 24, -14, 12)), blend=8),  # posterior column
        Stroke(s.tube((68, 34, 8, 5), (58, 44, 6, 4), (52, 48, 5, 2)), blend=4),  # ischial spine
        Stroke(s.tube((82, 16, -20, 13), (74, 28, -42, 11), (64, 28, -66, 12.5), (58, 16, -76, 9)), blend=6),  # ischium
        Stroke(s.tube((58, 14, -75, 8), (40, -10, -66, 5.5), (24, -30, -50, 5.5), (12, -42, -36, 7)), blend=5),  # lower ramus
        Stroke(s.tube((78, -16, 12, 11), (58, -34, 8, 7.5), (36, -47, -1, 6.5), (16, -53, -10, 8)), blend=6),  # upper ramus
        Stroke(s.tube((10.5, -54, -10, 7.5), (10, -50, -24, 8), (10, -44, -36, 7)), blend=5),  # body of the pubis
        Stroke(s.tube((24, -54, -5, 5)), blend=4),  # pubic tubercle
        Stroke(Tube((s.at(*HEAD_CENTRE),), (s.radius(SOCKET_RADIUS),)), Action.CARVE, 1.5),
        Stroke(s.tube((80, 2, -10, 14), (90, -4, -34, 15)), Action.CARVE, 3),  # acetabular notch
        Stroke(s.tube((0, -60, 4, 2.2), (0, -48, -24, 2.6), (0, -38, -48, 2.6)), Action.CARVE, 1),  # symphysis
    ]
    return Bone(name, strokes, s.radius(2.0), cortical_hu=1150, marrow_hu=280)


def femur(side: Side, name: str) -> Bone:
    """Head, neck, trochanters and the upper shaft."""
    s = side
    strokes = [
        Stroke(s.tube((*HEAD_CENTRE, HEAD_RADIUS)), blend=3),
        Stroke(s.tube((96, 1, -8, 17), (108, 4, -20, 15.5), (124, 8, -36, 18)), blend=8),  # neck
        Stroke(s.tube((131, 10, -42, 17), (136, 13, -22, 15), (138, 18, -6, 11)), blend=9),  # greater trochanter
        Stroke(s.tube((128, 8, -50, 19), (128, 8, -75, 16.5), (124, 4, -110, 15), (112, -4, -220, 14)), blend=10),  # shaft
        Stroke(s.tube((122, 14, -64, 11), (113, 21, -63, 6.5)), blend=8),  # lesser trochanter
    ]
    canal = s.tube((127, 8, -62, 16), (127, 7, -80, 10), (125, 5, -105, 8), (112, -4, -220, 7))
    return Bone(name, strokes, s.radius(2.1), cortical_hu=1200, marrow_hu=260, joint_mm=2.0, canal=canal)


_SACRAL = (  # y, z, half width of the wing, half thickness in the middle and at the wing, backward bow of the wing
    (40, 106, 50, 14, 8, 12),
    (47, 92, 54, 14, 12, 12),
    (60, 70, 50, 12, 11, 8),
    (72, 47, 40, 10, 8, 3),
    (78, 25, 31, 8, 6, 0),
    (74, 4, 20, 6.5, 4, -2),
)


def sacrum(left: Side, right: Side) -> Bone:
    """The sacrum: a bent plate with a thick first body, foramina in pairs, a canal and a crest, and the coccyx."""
    columns = np.linspace(-1, 1, 9)
    rows = []
    for y, z, width, middle, wing, bow in _SACRAL:
        half = wing + (middle - wing) * np.clip(1 - (columns / 0.75) ** 2, 0, 1)
        rows.append(np.stack([columns * width, y + bow * columns**2, np.full(9, z), half], axis=-1))
    table = np.array(rows)
    points = _both_sides(table[..., :3], left, right)
    scale = left.build.scale
    axes = tilt_about_x(_SACRUM_TILT)
    strokes = [
        Stroke(Sheet(points, table[..., 3] * scale), blend=3),
        Stroke(Drum(left.at(0, 39, 100), (25 * scale, 16 * scale, 15 * scale), axes), blend=6),
        Stroke(left.tube((0, 72, 102, 4), (0, 86, 84, 5), (0, 95, 60, 4.5), (0, 93, 36, 4), (0, 84, 12, 3)), blend=6),  # crest
        Stroke(left.tube((0, 72, 0, 7), (0, 68, -8, 5.5), (0, 60, -18, 4.5), (0, 50, -25, 3)), blend=4),  # coccyx
        Stroke(left.tube((0, 62, 110, 9), (0, 70, 88, 8), (0, 82, 62, 6), (0, 86, 40, 4)), Action.CARVE, 2),  # canal
    ]
    for side in (left, right):
        strokes.append(Stroke(side.tube((17, 64, 104, 5), (18, 62, 118, 5)), blend=4))  # superior articular process
        for x, y, z, radius in ((25, 54, 81, 6.0), (22, 67, 58, 5.5), (19, 75, 36, 5.0), (15, 77, 16, 4.0)):
            hole = side.tube((x, y - 20, z - 7, radius + 1), (x - 1, y, z, radius), (x - 3, y + 22, z + 6, radius * 0.75))
            strokes.append(Stroke(hole, Action.CARVE, 2))
    return Bone("sacrum", strokes, shell_mm=1.8 * scale, cortical_hu=1000, marrow_hu=250)


def vertebra(left: Side, right: Side, name: str, centre: Point, tilt: float) -> Bone:
    """A lumbar vertebra: body, pedicles, laminae, transverse, articular and spinous processes."""
    scale, g = left.build.scale, left.build.generator
    lean, turn = left.build.asymmetry * g.normal(0, 1.5, 2)
    axes = tilt_about_x(tilt, turn, lean)
    origin = np.array(left.at(*centre))

    def tube(side: int, *knots: tuple[float, float, float, float]) -> Tube:
        places = [origin + axes @ (np.array([side * x, y, z]) * scale) for x, y, z, _ in knots]
        return Tube(tuple(tuple(p.tolist()) for p in places), tuple(r * scale for *_, r in knots))

    body = Drum(tuple(origin.tolist()), (25.5 * scale, 17.5 * scale, 13.5 * scale), axes, waist=0.14)
    strokes = [Stroke(body, blend=2), Stroke(tube(1, (0, 44, -4, 4), (0, 58, -9, 4)), blend=4)]
    for height in (-5.0, -11.0, -16.0):  # the spinous process is a tall thin plate
        strokes.append(Stroke(tube(1, (0, 46, height + 2, 3), (0, 70, height - 2, 3.6)), blend=3))
    for side in (1, -1):
        reach = 41 + left.build.asymmetry * g.normal(0, 2)
        strokes += [
            Stroke(tube(side, (14, 12, 5, 5.5), (16, 28, 4, 5)), blend=4),  # pedicle
            Stroke(tube(side, (17, 27, 4, 5), (30, 31, 6, 3.6), (reach, 33, 8, 3.2)), blend=4),  # transverse process
            Stroke(tube(side, (16, 30, 2, 5), (9, 40, -5, 4.5), (0, 46, -8, 4.5)), blend=4),  # lamina
            Stroke(tube(side, (17, 31, 4, 5), (19, 31, 17, 5.5)), blend=4),  # superior articular process
            Stroke(tube(side, (13, 38, -6, 5), (13.5, 40, -21, 5)), blend=4),  # inferior articular process
        ]
    return Bone(name, strokes, shell_mm=1.7 * scale, cortical_hu=950, marrow_hu=250, joint_mm=2.0)


def bones(build: Build) -> tuple[list[Bone], dict[str, Point]]:
    """All bones, in the order in which a later one gives way to an earlier at a joint, and named landmarks."""
    left, right = build.side(1), build.side(-1)
    lumbar = [("L5", (0.0, 22.0, 133.0), 22.0), ("L4", (0.0, 10.0, 169.0), 8.0), ("L3", (0.0, 7.0, 207.0), 0.0)]
    spine = [vertebra(left, right, *place) for place in lumbar]
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
    found = {f"{name}_{word}": s.at(*p) for name, p in paired.items() for word, s in (("left", left), ("right", right))}
    middle = {"pubic_symphysis": (0, -50, -23), "sacral_promontory": (0, 21, 108), "coccyx_tip": (0, 49, -27)}
    return {**found, **{name: left.at(*p) for name, p in middle.items()}}


def _both_sides(points: np.ndarray, left: Side, right: Side) -> np.ndarray:
    folded = points * np.array([np.nan, 1, 1])
    folded[..., 0] = np.abs(points[..., 0])
    return np.where(points[..., :1] >= 0, left.many(folded), right.many(folded))


def _mirrored(vector: Point, side: int) -> Point:
    return side * vector[0], vector[1], vector[2]
