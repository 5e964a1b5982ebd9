"""`bodies.yaml`: which bones of a patient are registered each on its own, what they are made of, and how they may move.

    reference: pelvis
    bodies:
      pelvis: {labels: [sacrum, hip_left, hip_right]}
      femur_left: {labels: [femur_left], joint: {point_mm: [92, -36, -412], sd_mm: 3, sd_deg: 8}}
      ulna: {ct: ulna.nii.gz, frame: ulna_link}

The reference is what the CT is registered by: everything that belongs to no other body moves with it. Every other body is made
of labels of the segmentation, or has a CT of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fluoro_reg.config import from_mapping, load_yaml, option, section
from fluoro_reg.ct.bone_labels import label_number
from fluoro_reg.errors import InputError

Row = tuple[float, float, float, float]
_FORBIDDEN = "/ \t\n"


@dataclass(frozen=True, slots=True)
class JointOptions:
    """What is known of a body's pose relative to its parent, before the X-ray is seen: a Gaussian about a point."""

    parent: str = option("", "the body relative to which this one is described; empty: the reference")
    point_mm: tuple[float, ...] = option((), "the point that it turns about, in mm of its own CT; empty: its centre", unit="mm")
    sd_mm: float = option(8.0, "standard deviation of the shift along each axis", unit="mm", minimum=0.1, maximum=100.0)
    sd_deg: float = option(8.0, "standard deviation of the turn about each axis", unit="deg", minimum=0.1, maximum=90.0)
    parent_from_body: tuple[Row, ...] = option(
        (), "the expected pose, 4 x 4 in mm, where parent and body have CTs with different coordinates; empty: that of the CT"
    )


@dataclass(frozen=True, slots=True)
class MotionOptions:
    """How far `simulate` moves a body against its parent."""

    mm: float = option(0.0, "largest shift", unit="mm", minimum=0.0, maximum=100.0)
    deg: float = option(0.0, "largest turn about the joint's point", unit="deg", minimum=0.0, maximum=90.0)


@dataclass(frozen=True, slots=True)
class BodyOptions:
    """One body."""

    frame: str = option("", "child frame on tf2; empty: the body's name")
    labels: tuple[str, ...] = option((), "labels of the segmentation: numbers, or TotalSegmentator's names of bones")
    ct: str = option("", "path of a CT of this body alone, relative to the file")
    joint: JointOptions = section(JointOptions)
    motion: MotionOptions = section(MotionOptions)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The labels as numbers."""
        return tuple(label_number(label) for label in self.labels)


@dataclass(frozen=True, slots=True)
class BodiesConfig:
    """All bodies by name, parents before their children, and the reference, which is the first."""

    reference: str
    bodies: dict[str, BodyOptions]

    @property
    def moves_labels(self) -> bool:
        """Whether a body other than the reference is made of labels, so that a segmentation is needed."""
        return any(body.labels for name, body in self.bodies.items() if name != self.reference)

    def parent(self, name: str) -> str:
        """The body that a joint refers to."""
        return self.bodies[name].joint.parent or self.reference


def read_bodies(path: Path | str) -> BodiesConfig:
    """Read a bodies.yaml. Paths of CTs are returned relative to the working folder.

    Raises:
        InputError: The file is not one, or the bodies contradict each other.
    """
    path = Path(path)
    config = bodies_from_mapping(load_yaml(path), path.name)
    located = {name: replace(body, ct=str(path.parent / body.ct)) if body.ct else body for name, body in config.bodies.items()}
    return replace(config, bodies=located)


def bodies_from_mapping(content: Mapping[str, Any], where: str) -> BodiesConfig:
    """Build and check the configuration; `where` names its source in error messages.

    Raises:
        InputError: A key is unknown or missing, or the bodies contradict each other.
    """
    if unknown := [key for key in content if key not in ("reference", "bodies")]:
        raise InputError(f"{where}: unknown key '{unknown[0]}'; known keys: reference, bodies")
    rows, reference = content.get("bodies"), content.get("reference")
    if not isinstance(rows, Mapping) or not rows:
        raise InputError(f"{where} needs 'bodies', a section with one or more names")
    if not isinstance(reference, str) or reference not in rows:
        raise InputError(f"{where}: 'reference' must name one of the bodies, {', '.join(map(str, rows))}; got {reference!r}")
    bodies = {}
    for name, row in rows.items():
        if not isinstance(name, str) or not name or any(character in name for character in _FORBIDDEN):
            raise InputError(f"{where}: a body needs a name without spaces and slashes, got {name!r}")
        if row is not None and not isinstance(row, Mapping):
            raise InputError(f"{where}: the body {name} is a section and must contain 'key: value' pairs, got {row!r}")
        body = from_mapping(BodyOptions, row or {}, f"{where}, body {name}")
        bodies[name] = replace(body, frame=body.frame or name)
        _check_body(name, bodies[name], name == reference, f"{where}: the body {name}")
    _check_frames(bodies, where)
    return BodiesConfig(reference, _parents_first(bodies, reference, where))


def _check_body(name: str, body: BodyOptions, is_reference: bool, where: str) -> None:
    joint = body.joint
    for label in body.labels:
        label_number(label)
    if is_reference and (body.ct or joint != JointOptions()):
        raise InputError(f"{where} is the reference, which is made of the CT and has no joint; leave out 'ct' and 'joint'")
    if not is_reference and bool(body.ct) == bool(body.labels):
        raise InputError(f"{where} needs either 'labels' of the segmentation or a 'ct' of its own")
    if len(joint.point_mm) not in (0, 3):
        raise InputError(f"{where}: joint.point_mm needs 3 values, got {len(joint.point_mm)}")
    if len(joint.parent_from_body) not in (0, 4):
        raise InputError(f"{where}: joint.parent_from_body needs 4 rows of 4 values, got {len(joint.parent_from_body)} rows")
    if joint.parent == name:
        raise InputError(f"{where} cannot be its own parent")


def _check_frames(bodies: Mapping[str, BodyOptions], where: str) -> None:
    frames: dict[str, str] = {}
    for name, body in bodies.items():
        if (other := frames.setdefault(body.frame, name)) != name:
            raise InputError(f"{where}: the bodies {other} and {name} have the same frame '{body.frame}'; give each its own")


def _parents_first(bodies: dict[str, BodyOptions], reference: str, where: str) -> dict[str, BodyOptions]:
    ordered = {reference: bodies[reference]}
    waiting = [name for name in bodies if name != reference]
    for name in waiting:
        if (parent := bodies[name].joint.parent) and parent not in bodies:
            raise InputError(f"{where}: the parent of {name}, '{parent}', is not a body; known: {', '.join(bodies)}")
    while waiting:
        ready = [name for name in waiting if (bodies[name].joint.parent or reference) in ordered]
        if not ready:
            raise InputError(
                f"{where}: the bodies {', '.join(waiting)} are parents of each other; name one that hangs on another"
            )
        ordered |= {name: bodies[name] for name in ready}
        waiting = [name for name in waiting if name not in ordered]
    return ordered
