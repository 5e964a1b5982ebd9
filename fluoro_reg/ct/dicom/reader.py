"""Reader of DICOM CT series: the steps from files to slices, a series, a stack, pixels and a `CTVolume`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fluoro_reg.ct.dicom.pixels import READERS, read_hounsfield
from fluoro_reg.ct.dicom.series import choose_series
from fluoro_reg.ct.dicom.slices import CTSlice, SkippedFile, read_slices
from fluoro_reg.ct.dicom.stack import stack_slices
from fluoro_reg.ct.hounsfield import check_affine, check_size, volume_from_hu
from fluoro_reg.ct.volume import CTVolume


def read_dicom(files: Sequence[Path], series: str | None = None) -> CTVolume:
    """Read the only CT series in a list of DICOM files, or the one that `series` selects by its number or UID.

    Raises:
        InputError: There is not exactly one usable series, or it cannot be read.
    """
    slices, skipped = _read_slices(files)
    chosen, identity_warnings = choose_series(slices, skipped, series)
    stack = stack_slices(chosen)
    check_size(stack.shape, "the CT series")
    check_affine(stack.patient_from_voxel, "the CT series")
    planes, pixel_warnings = read_hounsfield(stack)
    header_warnings = dict.fromkeys(warning for item in chosen for warning in item.warnings)
    skipped_warnings = _skipped_warnings(len(slices) - len(chosen))
    warnings = [*identity_warnings, *header_warnings, *stack.warnings, *pixel_warnings, *skipped_warnings]
    return volume_from_hu(
        stack.resample(planes), stack.patient_from_voxel, "the CT series", warnings, is_calibrated=chosen[0].is_calibrated
    )


def _read_slices(files: Sequence[Path]) -> tuple[list[CTSlice], list[SkippedFile]]:
    slices: list[CTSlice] = []
    skipped: list[SkippedFile] = []
    labels = [f"DICOM file {number} of {len(files)} (in name order)" for number in range(1, len(files) + 1)]
    if len(files) == 1:
        labels = ["the DICOM file"]
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(read_slices, files, labels):
            if isinstance(found, SkippedFile):
                skipped.append(found)
            else:
                slices.extend(found)
    return slices, skipped


def _skipped_warnings(count: int) -> list[str]:
    if not count:
        return []
    return ["1 CT slice of another series was skipped" if count == 1 else f"{count} CT slices of other series were skipped"]
