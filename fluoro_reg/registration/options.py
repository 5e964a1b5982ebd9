"""The settings of a registration and their defaults; YAML files, `--set` and ROS parameters are derived from them."""

from dataclasses import dataclass

from fluoro_reg.config import option, section
from fluoro_reg.errors import InputError
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Thresholds that decide whether a pose is accepted; every one must hold."""

    minimum_similarity: float = option(0.40, "gradient NCC at the finest scale", minimum=0.2, maximum=1.0)
    minimum_patch_similarity: float = option(
        0.76, "mean patch NCC inside the body at the finest scale", minimum=0.4, maximum=1.0
    )
    minimum_similarity_of_object: float = option(
        0.58, "the same gradient NCC when residuals are taken near an object only", minimum=0.3, maximum=1.0
    )
    minimum_patch_similarity_of_object: float = option(
        0.45, "the same patch NCC when residuals are taken near an object only", minimum=0.2, maximum=1.0
    )
    minimum_similarity_of_bone: float = option(
        0.44, "the same gradient NCC when the bone of a cut CT is compared alone", minimum=0.2, maximum=1.0
    )
    minimum_patch_similarity_of_bone: float = option(
        0.30, "the same patch NCC when the bone of a cut CT is compared alone", minimum=0.1, maximum=1.0
    )
    certain_similarity: float = option(
        0.75, "gradient NCC of a body that needs no decoys where one X-ray alone speaks for a pose", minimum=0.2, maximum=1.0
    )
    certain_patch_similarity: float = option(
        0.85, "mean patch NCC of a body that needs no decoys where one X-ray alone speaks for a pose", minimum=0.4, maximum=1.0
    )
    minimum_similarity_with_decoys: float = option(
        0.18, "gradient NCC of an object or of bone below which decoys (mirrored images) cannot help", minimum=0.1, maximum=1.0
    )
    minimum_patch_similarity_with_decoys: float = option(
        0.18, "mean patch NCC of an object or of bone below which decoys cannot help", minimum=0.1, maximum=1.0
    )
    minimum_decoy_gain: float = option(
        3.0, "evidence relative to that of decoys, where a similarity is not certain", minimum=1.5, maximum=100.0
    )
    minimum_pixels: int = option(400, "compared pixels at the finest scale", unit="px", minimum=100, maximum=10_000_000)
    minimum_overlap: float = option(0.3, "fraction of the projected CT that is compared", minimum=0.05, maximum=1.0)
    minimum_overlap_of_bone: float = option(
        0.2, "the same fraction of the pixels near the bone of a cut CT, on and off the detector", minimum=0.05, maximum=1.0
    )
    minimum_margin: float = option(
        0.02, "similarity by which the best pose must beat every other, distinct pose", minimum=0.0, maximum=0.5
    )
    distinct_mm: float = option(
        4.0, "poses whose CT points are further apart count as distinct", unit="mm", minimum=0.5, maximum=50
    )
    maximum_sd_mm: float = option(15.0, "predicted standard deviation of a point's depth", unit="mm", minimum=0.1, maximum=200)
    maximum_outline_mm: float = option(
        4.0, "change of depth if the body's outline against air were ignored", unit="mm", minimum=0.1, maximum=200
    )
    maximum_turn_sd_deg: float = option(
        1.5, "predicted standard deviation of the least certain rotation", unit="deg", minimum=0.05, maximum=90
    )
    depth_range_mm: tuple[float, float] = option(
        (100.0, 3000.0), "distance of the CT's centre from the source", unit="mm", minimum=1.0, maximum=20_000.0
    )
    maximum_jump_mm: float = option(
        40.0, "tracking: displacement of the CT's points since the last accepted pose", unit="mm", minimum=1.0, maximum=1000.0
    )


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """How poses follow each other in a stream of images."""

    pose: str = option(
        "image",
        "what a tracked pose rests on: this image alone, or filtered: this image and the motion until then",
        choices=("image", "filtered"),
    )
    acceleration_mm_s2: float = option(
        300.0, "standard deviation of accelerations between camera and patient", unit="mm/s^2", minimum=1.0, maximum=100_000.0
    )
    acceleration_deg_s2: float = option(150.0, "the same of rotations", unit="deg/s^2", minimum=1.0, maximum=100_000.0)
    register_repeats: bool = option(
        False, "register a frame whose pixels equal those of the frame before; else it is taken for a frozen source"
    )


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """The views that are searched where neither an initial pose nor weights are given."""

    view: str = option(
        "", "range of views: ap, pa, ap-pa, lateral-left, lateral-right, around or any; empty: ap-pa, or what the method says"
    )
    range: str = option("", "carm.yaml with a range of views (mm, deg); it takes precedence over `view`")

    @property
    def given(self) -> str:
        """The path of the range or its name; empty if neither is given."""
        return self.range or self.view


@dataclass(frozen=True, slots=True)
class LearnedOptions:
    """Weights files of learned similarities, trained on this CT or on several; empty: none. By the names that methods use."""

    prost: str = option("", "weights of ProST")
    spherical: str = option("", "weights of the spherical similarity")


@dataclass(frozen=True, slots=True)
class RegistrationOptions:
    """All settings of a registration."""

    method: str = option("lm-gradient-ncc", "name of a method (`fluoro-reg methods` lists them), or the path of a YAML file")
    model: str = option("", "weights of a pose regressor trained on this CT, which then predicts initial poses; empty: none")
    learned: LearnedOptions = section(LearnedOptions)
    initial: ViewOptions = section(ViewOptions)
    device: str = option(
        "auto", "device to compute on; auto: cuda if CUDA and Triton are present, else cpu", choices=("cpu", "cuda", "auto")
    )
    roi: str = option(
        "auto",
        "where residuals are taken: the full image, near the projected CT, or its box; auto: near it if the CT is mostly air",
        choices=("auto", "full", "moving-support", "box"),
    )
    saturation: str = option(
        "auto", "S of the intensity model 1 - exp(-S L) (1/line integral), off, or auto: on for metal objects"
    )
    seed: int = option(0, "random seed", minimum=0, maximum=2**31 - 1)
    preprocess: PreprocessOptions = section(PreprocessOptions)
    gate: GateOptions = section(GateOptions)
    tracking: TrackingOptions = section(TrackingOptions)

    def __post_init__(self) -> None:
        if self.saturation in ("auto", "off"):
            return
        try:
            valid = 0 < float(self.saturation) < 1000
        except ValueError:
            valid = False
        if not valid:
            raise InputError(f"saturation must be a positive number, 'off' or 'auto', got '{self.saturation}'")
