"""Where a search begins that nobody gives a pose to: the views around the nominal one of a header, then those of a range.

A header's angles centre the search and narrow it. They are never the pose, and they may be wrong: some systems always write
zeros, and a patient may lie on the side. Where no pose is found around them, the whole range is searched. A range that the user
names is never left.
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
    register: Callable[[tuple[CarmRange, ...]], RegistrationResult],
) -> RegistrationResult:
    """Register an X-ray without an initial pose.

    Args:
        views: The range.
        nominal: The view that the header of the X-ray states, if it does.
        register: Registers within parts of the range, or in the whole of it if there are none.
    """
    if nominal is None:
        return replace(register(()), start="range", start_detail=views.in_words)
    stated = f"angles {nominal.primary_deg:.0f} and {nominal.secondary_deg:.0f} deg of the header"
    parts = views_around(nominal, views.carm) if views.is_given else anywhere_around(nominal, views.carm)
    if not parts:
        detail = f"{views.in_words}, which do not include the {stated}"
        return replace(register(()), start="range", start_detail=detail)
    near = register(tuple(parts))
    if near.outcome in ANSWERS:
        return replace(near, start="header", start_detail=f"the views within {MARGIN_DEG:.0f} deg of the {stated}")
    result = register(())
    detail = f"{views.in_words}, as nothing was accepted within {MARGIN_DEG:.0f} deg of the {stated}"
    elapsed_s, n_renders = near.elapsed_s + result.elapsed_s, near.n_renders + result.n_renders
    return replace(result, start="range", start_detail=detail, elapsed_s=elapsed_s, n_renders=n_renders)
