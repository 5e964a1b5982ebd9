"""The gates, which decide whether a pose is accepted and give the reason if it is not.

No single number separates correct from wrong poses, because an absolute similarity is not comparable between anatomies and
doses. Therefore several independent conditions must all hold. A rejected pose is still reported, but never published.

The defaults of the similarity gates are based on measurements. On simulated X-rays of two real CTs, correct poses scored 0.80
to 0.97 (gradient NCC) and 0.81 to 0.97 (patch NCC inside the body), with instruments in view 0.48 to 0.84 and 0.78 to 0.89.
Wrong CTs stayed below 0.56 and 0.74, but mirrored images of a pelvis reached 0.68 and 0.80: hence the decoys. Real knee
implants score 0.68 to 0.74 and 0.48 to 0.59. From starts 80 mm away, a wrong pose of another renderer's X-ray reached 0.58 and
0.74. Where the bone of a cut CT is compared alone, correct poses scored 0.17 to 0.63 (gradient NCC), poses far off 0.35 at
most, and mirrored images, whose anatomy is nearly symmetric, 0.42. `benchmarks/cases.py`, `independent.py`, `wrong.py` and
`knee_implants.py` print such numbers.
"""

import enum
import math
from dataclasses import dataclass, replace

from fluoro_reg.registration.options import GateOptions
from fluoro_reg.registration.result import Outcome


class Support(enum.Enum):
    """What supports a pose besides the X-ray that is assessed."""

    OTHER_IMAGES = "other images"  # the frames before it, or other views
    INITIAL_POSE = "initial pose"
    NOTHING = "nothing"  # all views were searched: a wrong X-ray, too, finds the one that it resembles


@dataclass(frozen=True, slots=True)
class Evidence:
    """The values that the gates check.

    Attributes:
        similarity: Gradient NCC of the best pose.
        patch_similarity: Mean patch NCC inside the body.
        rival_similarity: The highest similarity among distinct poses; None if there is no other pose.
        pixels: Compared pixels.
        overlap: Compared fraction of the projected CT.
        depth_mm: Distance of the pivot from the source along the optical axis.
        depth_sd_mm: Predicted standard deviation along the optical axis; None if it is undetermined.
        outline_mm: Change of depth if the body's outline were ignored, mm; None if unknown.
        turn_sd_deg: Predicted standard deviation of the least certain rotation; None if it is undetermined.
        converged: Whether the optimiser met its tolerance.
        compared: What is compared: `body`, `object` (only pixels near the projected CT) or `bone` (of a cut CT).
        support: What supports the pose besides the X-ray.
        decoy_similarity: The similarity that mirrored images reached; None if none was registered.
    """

    similarity: float
    patch_similarity: float
    rival_similarity: float | None
    pixels: int
    overlap: float
    depth_mm: float
    depth_sd_mm: float | None
    outline_mm: float | None
    turn_sd_deg: float | None
    converged: bool
    compared: str
    support: Support = Support.OTHER_IMAGES
    decoy_similarity: float | None = None

    def scores(self) -> dict[str, float]:
        """The values by name, for the result, without those that are None or not finite."""
        numbers = {
            "similarity": self.similarity,
            "patch_similarity": self.patch_similarity,
            "rival_similarity": self.rival_similarity,
            "pixels": float(self.pixels),
            "overlap": self.overlap,
            "depth_mm": self.depth_mm,
            "depth_sd_mm": self.depth_sd_mm,
            "outline_mm": self.outline_mm,
            "turn_sd_deg": self.turn_sd_deg,
            "decoy_similarity": self.decoy_similarity,
        }
        return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


def check_gates(evidence: Evidence, gate: GateOptions) -> tuple[Outcome, str]:
    """The outcome and its reason; the first gate that fails decides. NaN fails every gate: hence `not ... >=`."""
    e = evidence
    near, far = gate.depth_range_mm
    if not near <= e.depth_mm <= far:
        return (
            Outcome.REJECTED_POSE,
            f"the CT would lie {e.depth_mm:.0f} mm from the source, outside {near:.0f} to {far:.0f} mm",
        )
    if e.pixels < gate.minimum_pixels:
        return Outcome.REJECTED_POSE, f"only {e.pixels} pixels can be compared, fewer than {gate.minimum_pixels}"
    minimum_overlap = gate.minimum_overlap_of_bone if e.compared == "bone" else gate.minimum_overlap
    minimum, minimum_patch = _sufficient(e, gate) if e.decoy_similarity is None else _lowest(e, gate)
    if not e.overlap >= minimum_overlap:
        return Outcome.REJECTED_POSE, f"only {e.overlap:.0%} of the CT's projection can be compared with the image"
    if not e.similarity >= minimum:
        return Outcome.REJECTED_POSE, f"the CT does not explain the image: similarity {e.similarity:.2f} < {minimum}"
    if not e.patch_similarity >= minimum_patch:
        reason = f"parts of the image contradict the pose: patch similarity {e.patch_similarity:.2f} < {minimum_patch}"
        return Outcome.REJECTED_POSE, reason
    if not is_above_decoys(e, e.decoy_similarity, gate):
        reason = f"the mirrored image is explained nearly as well: similarity {e.decoy_similarity:.2f}, not {e.similarity:.2f}"
        return _outcome_beside_decoys(e, gate), reason
    if e.rival_similarity is not None and not e.similarity - e.rival_similarity >= gate.minimum_margin:
        return Outcome.AMBIGUOUS, f"another pose explains the image as well: similarity {e.rival_similarity:.3f}"
    if e.depth_sd_mm is None or not e.depth_sd_mm <= gate.maximum_sd_mm:
        return Outcome.NOT_CONVERGED, "the image leaves one direction of the pose undetermined"
    if e.outline_mm is not None and not e.outline_mm <= gate.maximum_outline_mm:
        reason = f"without the body's outline the depth would change by {e.outline_mm:.1f} mm; the outline may be saturated"
        return Outcome.REJECTED_POSE, reason
    if e.turn_sd_deg is None or not e.turn_sd_deg <= gate.maximum_turn_sd_deg:
        return Outcome.NOT_CONVERGED, "the image leaves a rotation undetermined, as for an object with rotational symmetry"
    if not e.converged:
        return Outcome.NOT_CONVERGED, "the optimiser ran out of steps before it converged, or stopped away from the optimum"
    return Outcome.CONVERGED, f"similarity {e.similarity:.2f} over {e.pixels} pixels"


def decoys_decide(evidence: Evidence, gate: GateOptions) -> bool:
    """Whether the pose is rejected without decoys, and would be accepted if they were explained badly enough."""
    outcomes = [check_gates(replace(evidence, decoy_similarity=decoy), gate)[0] for decoy in (None, 0.0)]
    return outcomes[0] is not Outcome.CONVERGED and outcomes[1] is Outcome.CONVERGED


def is_above_decoys(evidence: Evidence, decoy_similarity: float | None, gate: GateOptions) -> bool:
    """Whether the similarity tells a pose from those of decoys; True without decoys.

    The evidence of a pixel at correlation r is `-log(1 - r^2) / 2`, as in `image_evidence`. Evidence that is sufficient without
    decoys must exceed theirs, any other by `minimum_decoy_gain`.
    """
    if decoy_similarity is None:
        return True
    minimum, minimum_patch = _sufficient(evidence, gate)
    is_sufficient = evidence.similarity >= minimum and evidence.patch_similarity >= minimum_patch
    needed = 1.0 if is_sufficient else gate.minimum_decoy_gain
    return gain(evidence.similarity) > needed * gain(decoy_similarity)


def _outcome_beside_decoys(evidence: Evidence, gate: GateOptions) -> Outcome:
    """The outcome of a pose that decoys do not allow: ambiguous if it is similar enough, but to its mirror image, too."""
    similarity, patch = _minima(evidence.compared, gate)
    is_similar = evidence.similarity >= similarity and evidence.patch_similarity >= patch
    is_better = evidence.similarity > (evidence.decoy_similarity or 0.0)
    return Outcome.AMBIGUOUS if is_similar and is_better else Outcome.REJECTED_POSE


def gain(similarity: float) -> float:
    """The evidence of a pixel at a similarity."""
    return -0.5 * math.log1p(-(min(max(similarity, 0.0), 1 - 1e-9) ** 2))


def _sufficient(evidence: Evidence, gate: GateOptions) -> tuple[float, float]:
    """The smallest similarity and patch similarity that need no decoys."""
    similarity, patch = _minima(evidence.compared, gate)
    if evidence.support is Support.NOTHING or (evidence.support is Support.INITIAL_POSE and evidence.compared == "body"):
        return max(similarity, gate.certain_similarity), max(patch, gate.certain_patch_similarity)
    return similarity, patch


def _lowest(evidence: Evidence, gate: GateOptions) -> tuple[float, float]:
    """The smallest similarity and patch similarity beside decoys."""
    if evidence.compared == "body":
        return _minima(evidence.compared, gate)
    return gate.minimum_similarity_with_decoys, gate.minimum_patch_similarity_with_decoys


def _minima(compared: str, gate: GateOptions) -> tuple[float, float]:
    """The smallest similarity and patch similarity for what is compared."""
    return {
        "body": (gate.minimum_similarity, gate.minimum_patch_similarity),
        "object": (gate.minimum_similarity_of_object, gate.minimum_patch_similarity_of_object),
        "bone": (gate.minimum_similarity_of_bone, gate.minimum_patch_similarity_of_bone),
    }[compared]
