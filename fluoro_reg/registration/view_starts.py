"""Where a search begins that nobody gives a pose to: the views around the nominal one of a header, then those of a range.

A header's angles centre the search and narrow it. They are never the pose, and they may be wrong: some systems always write
zeros, and a patient may lie on the side. Where no pose is accepted around them, the whole range is searched. If that gives no
answer either, the result is the pose around the angles, which are right more often than not, unless only that of the range
stands out from its rivals. A range that the user names is never left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fluoro_reg.carm.nominal_range import MARGIN_DEG, anywhere_around, views_around
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.xray.nominal_view import NominalView

ANSWERS = (Outcome.CONVERGED, Outcome.AMBIGUOUS, Outcome.REJECTED_IMAGE)  # which a search of more views would not change


@dataclass(frozen=True, slots=True)
class SearchedViews:
    """The range of views that is searched, its name or path, and whether the user gave it."""

    carm: CarmRange
    name: str
    is_given: bool

    @property
    def in_words(self) -> str:
        """The range in words, without the folder of a file."""
        return f"the views {Path(self.name).name}"


def register_in_views(
    views: SearchedViews,
    nominal: NominalView | None,
    register: Callable[[tuple[CarmRange, ...], bool], RegistrationResult],
) -> RegistrationResult:
    """Register an X-ray without an initial pose.

    Args:
        views: The range.
        nominal: The view that the header of the X-ray states, if it does.
        register: Registers within parts of the range, or in the whole of it if there are none. The second argument is whether
            a thorough search may follow a quick one.
    """
    if nominal is None:
        return replace(register((), True), start="range", start_detail=views.in_words)
    stated = f"angles {nominal.primary_deg:.0f} and {nominal.secondary_deg:.0f} deg of the header"
    parts = views_around(nominal, views.carm) if views.is_given else anywhere_around(nominal, views.carm)
    if not parts:
        detail = f"{views.in_words}, which do not include the {stated}"
        return replace(register((), True), start="range", start_detail=detail)
    near, within = register(tuple(parts), True), f"within {MARGIN_DEG:.0f} deg of the {stated}"
    if near.outcome in ANSWERS:
        return replace(near, start="header", start_detail=f"the views {within}")
    wide = register((), not near.stands_out)
    is_only_pose = near.camera_from_patient is None and wide.camera_from_patient is not None
    if wide.outcome in ANSWERS or is_only_pose or (wide.stands_out and not near.stands_out):
        result = replace(wide, start="range", start_detail=f"{views.in_words}, as nothing was accepted {within}")
    else:
        result = replace(near, start="header", start_detail=f"the views {within}, as nothing was accepted in {views.in_words}")
    return replace(result, elapsed_s=near.elapsed_s + wide.elapsed_s, n_renders=near.n_renders + wide.n_renders)
