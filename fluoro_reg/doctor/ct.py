"""The examination of a CT: its geometry with the header items that gave it, its HU, and the warnings of its reader.

A CT that a registration would refuse is examined, too: the facts of its headers are what a person needs to see why.
"""

from pathlib import Path
from typing import Any

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.summary import summarise
from fluoro_reg.doctor.ct_headers import GeometrySources, dicom_headers, volume_file_headers
from fluoro_reg.doctor.ct_pictures import ct_pictures
from fluoro_reg.doctor.examination import Examination, Fact, Section, refusal, warnings_of
from fluoro_reg.doctor.inputs import is_dicom
from fluoro_reg.errors import InputError


def examine_ct(path: Path, series: str | None) -> Examination:
    """Return what a registration would see in a CT, or why it would refuse it."""
    headers, sources = dicom_headers(path) if is_dicom(path) else volume_file_headers(path)
    kind = f"CT ({sources.format})"
    try:
        volume = read_ct(path, series)
    except InputError as error:
        return refusal(kind, str(error), headers)
    summary = summarise(volume)
    sections = (_geometry(summary, sources), _values(summary, sources), *headers)
    return Examination(kind, sections, warnings_of(summary["warnings"]), ct_pictures(volume))


def _geometry(summary: dict[str, Any], sources: GeometrySources) -> Section:
    return Section(
        "Geometry",
        (
            Fact("size (columns, rows, slices)", summary["shape_ijk"], "voxels", sources.size),
            Fact("voxel size", summary["voxel_size_mm"], "mm", sources.spacing),
            Fact("extent", summary["extent_mm"], "mm"),
            Fact("axes (columns, rows, slices)", summary["orientation"], "", sources.directions),
            Fact("angle to the patient's axes", summary["obliqueness_deg"], "deg", sources.directions),
            Fact("tilt of the slices", summary["tilt_deg"], "deg", sources.directions),
            Fact("centre in the patient", summary["centre_patient_mm"], "mm", sources.origin),
            Fact("patient_from_voxel", summary["patient_from_voxel"], "mm"),
        ),
    )


def _values(summary: dict[str, Any], sources: GeometrySources) -> Section:
    return Section(
        "Values",
        (
            Fact("range", summary["hu_range"], "HU", sources.values),
            Fact("air", summary["air_share"], "of the voxels"),
            Fact("fingerprint", summary["fingerprint"], "", "SHA-256 of geometry and HU"),
        ),
    )
