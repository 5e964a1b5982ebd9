"""A DICOM CT series to a `CTVolume`: files, slices, series, stack, pixels, one after the other."""

from collections.abc import Sequence
from pathlib import Path

from fluoro_reg.ct.dicom.pixels import read_hounsfield
from fluoro_reg.ct.dicom.series import choose_series
from fluoro_reg.ct.dicom.slices import CTSlice, LeftOut, read_slices
from fluoro_reg.ct.dicom.stack import stack_slices
from fluoro_reg.ct.hounsfield import check_affine, check_size, volume_from_hu
from fluoro_reg.ct.volume import CTVolume


def read_dicom(files: Sequence[Path], series: str | None = None) -> CTVolume:
    """Reads the one CT series among DICOM files, or the one that `series` names (a listed number or a UID)."""
    slices, left_out = _read_all(files)
    chosen = choose_series(slices, left_out, series)
    stack = stack_slices(chosen)
    check_size(stack.shape, "the CT series")
    check_affine(stack.patient_from_voxel, "the CT series")
    planes, warnings = read_hounsfield(stack)
    found = [*stack.warnings, *warnings, *_left_out_warnings(len(slices) - len(chosen))]
    return volume_from_hu(stack.on_grid(planes), stack.patient_from_voxel, "the CT series", found)


def _read_all(files: Sequence[Path]) -> tuple[list[CTSlice], list[LeftOut]]:
    slices: list[CTSlice] = []
    left_out: list[LeftOut] = []
    for number, path in enumerate(files, start=1):
        label = "the DICOM file" if len(files) == 1 else f"DICOM file {number} of {len(files)} (in name order)"
        found = read_slices(path, label)
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            slices.extend(found)
    return slices, left_out


def _left_out_warnings(count: int) -> list[str]:
    if not count:
        return []
    return ["1 CT slice of another series was left out" if count == 1 else f"{count} CT slices of other series were left out"]
