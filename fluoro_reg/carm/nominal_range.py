"""The views around a nominal view of an X-ray's header, for a search that begins there.

Headers give the angles of the detector: 0 has it in front of the patient, with the focal spot behind. `view_pose` gives those
of the focal spot. Images are often mirrored for display, as if seen from the detector, so that the focal spot seems to be in
front of the patient. Both sides of the same axis are therefore searched.
"""

from dataclasses import replace

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.xray.nominal_view import NominalView

MARGIN_DEG = 15.0  # to either side: angles refer to the isocentre and the table, on which the patient may lie askew
DISTANCE_RATIO = 1.2  # to either side: a distance to the patient is that to the table, the isocentre or the skin
_OFFSET_DEG = {"AP": 0.0, "PA": 180.0}


def views_around(nominal: NominalView, carm: CarmRange) -> list[CarmRange]:
    """Return the parts of a range that are near a nominal view, one for each side of its axis; none if it is outside."""
    found = [_around(nominal, carm, side, view) for side in ("PA", "AP") for view in carm.views]
    return [one for one in found if one is not None]


def anywhere_around(nominal: NominalView, carm: CarmRange) -> list[CarmRange]:
    """Return the views near a nominal view, wherever the range of angles of `carm` is; all else is that of `carm`."""
    unlimited = replace(_uniform(carm), views=("AP",), primary_deg=(-180.0, 180.0), secondary_deg=(-90.0, 90.0))
    return views_around(nominal, unlimited)


def _around(nominal: NominalView, carm: CarmRange, side: str, view: str) -> CarmRange | None:
    """The views near the nominal one with the focal spot on one side of its axis, by the angles of one view of the range."""
    primary = (nominal.primary_deg + _OFFSET_DEG[side] - _OFFSET_DEG[view] + 180.0) % 360.0 - 180.0
    secondary = nominal.secondary_deg * (-1.0 if side == "PA" else 1.0)  # the focal spot is opposite to the detector
    primaries = _overlap(primary, MARGIN_DEG, carm.interval("primary_deg"), full_circle=True)
    secondaries = _overlap(secondary, MARGIN_DEG, carm.interval("secondary_deg"))
    if primaries is None or secondaries is None:
        return None
    return replace(
        _uniform(carm),
        views=(view,),
        primary_deg=primaries,
        secondary_deg=secondaries,
        source_to_object_mm=_distances(nominal, carm),
    )


def _uniform(carm: CarmRange) -> CarmRange:
    """The same range with pairs of (low, high), whatever its distribution."""
    return replace(
        carm,
        distribution="uniform",
        primary_deg=carm.interval("primary_deg"),
        secondary_deg=carm.interval("secondary_deg"),
        roll_deg=carm.interval("roll_deg"),
        left_mm=carm.interval("left_mm"),
        back_mm=carm.interval("back_mm"),
        up_mm=carm.interval("up_mm"),
        source_to_object_mm=carm.interval("source_to_object_mm"),
    )


def _overlap(
    centre: float, margin: float, limits: tuple[float, float], full_circle: bool = False
) -> tuple[float, float] | None:
    """The part of `centre` +- `margin` that is within the limits; None if `centre` itself is more than a margin outside."""
    low, high = limits
    if full_circle and high - low >= 360.0:
        return centre - margin, centre + margin
    begin, end = max(low, centre - margin), min(high, centre + margin)
    return (begin, end) if begin < end else None


def _distances(nominal: NominalView, carm: CarmRange) -> tuple[float, float]:
    """The distances near the stated one that are within the range; those of the range if none are."""
    low, high = carm.interval("source_to_object_mm")
    if nominal.source_to_patient_mm is None:
        return low, high
    begin = max(low, nominal.source_to_patient_mm / DISTANCE_RATIO)
    end = min(high, nominal.source_to_patient_mm * DISTANCE_RATIO)
    return (begin, end) if begin < end else (low, high)
