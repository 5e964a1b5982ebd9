"""What the doctor says about CTs and X-ray files: numbers with their sources, and what to give for what is missing."""

import io
import json

import numpy as np
import pytest
from helpers.examinations import fact, finding
from helpers.xray_images import camera, write_xa
from PIL import Image

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.doctor.examine import DoctorOptions
from fluoro_reg.doctor.pixels import PICTURE_PX
from fluoro_reg.formats.recordings import RecordingSource
from fluoro_reg.xray.dicom.carm_items import CARM_ITEMS
from fluoro_reg.xray.image import Intensity

GEOMETRY = {"DistanceSourceToDetector": 1000.0, "ImagerPixelSpacing": [0.4, 0.5]}


def test_a_ct_is_described_with_the_items_that_gave_its_geometry(examine, phantom_folder, phantom):
    found = examine(phantom_folder)
    assert (found.kind, found.status) == ("CT (DICOM)", "ready")
    spacing = fact(found, "Geometry", "voxel size")
    assert spacing.value == pytest.approx(phantom.voxel_size_mm, abs=1e-3)
    assert "PixelSpacing" in spacing.source and "ImagePositionPatient" in spacing.source
    assert fact(found, "DICOM files", "CT slices").value == phantom.shape_ijk[2]
    assert fact(found, "Values", "range").value == pytest.approx(phantom.hu_range, abs=0.1)
    assert len(found.pictures) == 4


def test_a_ct_that_is_refused_is_still_described(examine, phantom_folder, tmp_path):
    files = sorted(phantom_folder.iterdir())
    (tmp_path / "ct").mkdir()
    for file in files[:2]:
        (tmp_path / "ct" / file.name).write_bytes(file.read_bytes())
    found = examine(tmp_path / "ct")
    assert found.status == "refused"
    assert fact(found, "DICOM files", "CT slices").value == 2
    assert not found.pictures


def test_the_planes_of_a_ct_have_the_patients_right_on_the_left_and_the_head_up(phantom):
    from fluoro_reg.doctor.ct_pictures import _in_patient_order

    grid, spacing = _in_patient_order(phantom)
    assert spacing == pytest.approx([4.0, 4.0, 4.0], abs=1e-6)
    densest = np.unravel_index(int(grid.argmax()), grid.shape)
    k, j, i = np.unravel_index(int(phantom.attenuation.argmax()), phantom.attenuation.shape)
    point = (phantom.patient_from_voxel.numpy() @ [i, j, k, 1])[:3]
    corner = point - 4.0 * np.array(densest[::-1])  # where (0, 0, 0) of the picture's grid is in the patient
    ends = phantom.patient_from_voxel.numpy() @ np.array([[0, 0, 0, 1], [*(n - 1 for n in phantom.shape_ijk), 1]]).T
    assert corner == pytest.approx(ends[:3].min(1), abs=1e-3)


def test_the_camera_of_an_xray_comes_with_its_sources(examine, xray_file):
    found = examine(xray_file(**GEOMETRY))
    assert (found.kind, found.status) == ("X-ray (DICOM XA)", "ready")
    focal = fact(found, "Camera", "focal lengths fx, fy")
    assert focal.value == [2000.0, 2500.0] and focal.source == "DistanceSourceToDetector / ImagerPixelSpacing"
    assert fact(found, "Camera", "principal point cx, cy").source == "centre of the image, assumed"


def test_a_missing_camera_is_answered_with_a_camera_json_that_holds_what_is_known(examine, xray_file):
    found = examine(
        xray_file(
            DistanceSourceToPatient=700.0,
            EstimatedRadiographicMagnificationFactor=1.4,
            FieldOfViewDimensions=[200],
            ImagerPixelSpacing=[0.8, 0.8],
        )
    )
    assert found.status == "incomplete"
    missing = finding(found, "missing", "DistanceSourceToDetector is missing")
    assert "--camera camera.json" in missing.sentence and "SDD = 980" in missing.sentence
    template = missing.give.replace("FX", "1225").replace("FY", "1225").replace("SDD", "980")
    assert json.loads(template) == {
        "width": 256,
        "height": 256,
        "k": [1225, 0.0, 127.5, 0.0, 1225, 127.5, 0.0, 0.0, 1.0],
        "source_to_detector_mm": 980,
    }


def test_known_parts_of_the_camera_are_filled_in(examine, xray_file):
    missing = finding(examine(xray_file(DistanceSourceToDetector=1000.0, IntensifierSize=310.0)), "missing", "no camera")
    assert '"source_to_detector_mm": 1000' in missing.give and "1.211 mm a pixel" in missing.sentence


def test_a_given_camera_that_contradicts_the_file_is_reported_with_both_values(examine, xray_file):
    options = DoctorOptions(source=RecordingSource(camera=camera(256, 256)))
    found = examine(xray_file(**GEOMETRY), options)
    assert fact(found, "Camera", "focal lengths fx, fy").value == [1024.0, 1024.0]
    sentence = finding(found, "warning", "the given camera is used").sentence
    assert "1024.0" in sentence and "2000.0" in sentence and "x.dcm" not in sentence


def test_a_carms_items_are_listed_with_their_use_and_the_pose_is_none_of_them(examine, xray_file):
    tags = {"PositionerPrimaryAngle": -30.0, "TableHeight": 900.0, "EstimatedRadiographicMagnificationFactor": 1.4}
    found = examine(xray_file(**GEOMETRY, **tags, PositionerMotion="STATIC"))
    angle = fact(found, "C-arm", "PositionerPrimaryAngle")
    assert angle.value == -30.0 and "never the pose" in angle.source
    assert fact(found, "C-arm", "DistanceSourceToDetector").source.endswith("used: the focal lengths")
    assert fact(found, "C-arm", "PositionerMotion").value == "STATIC"
    starts = [item for item in CARM_ITEMS if item.keyword in ("PositionerPrimaryAngle", "DistanceSourceToPatient")]
    assert all(item.used and item.use.startswith("without an initial pose") and "never" in item.use for item in starts)


def test_a_term_that_dicom_does_not_define_is_not_repeated(examine, xray_file):
    found = examine(xray_file(**GEOMETRY, PositionerMotion="MILLER", Modality="XA", PixelIntensityRelationship="MILLER"))
    assert "MILLER" not in json.dumps(found.to_json(1))


def test_polarity_says_who_stated_it_and_what_the_image_says(examine, xray_file):
    estimated = examine(xray_file(**GEOMETRY))
    assert fact(estimated, "Pixels", "meaning of the pixels").value == "transmitted"
    assert fact(estimated, "Pixels", "meaning of the pixels").source == "estimated from the image"
    stated = examine(xray_file(**GEOMETRY, PixelIntensityRelationship="LIN"))
    assert fact(stated, "Pixels", "meaning of the pixels").source == "PixelIntensityRelationship and its Sign"
    given = examine(xray_file(**GEOMETRY), DoctorOptions(source=RecordingSource(intensity=Intensity.TRANSMITTED)))
    assert fact(given, "Pixels", "meaning of the pixels").source == "--intensity"


def test_a_header_that_the_image_contradicts_is_a_warning(examine, tmp_path, xray_pixels):
    framed = np.zeros((400, 400), np.uint16)
    framed[72:328, 72:328] = xray_pixels  # dark lead around the field: photons
    path = write_xa(
        tmp_path / "x.dcm", framed, PixelIntensityRelationship="DISP", PixelIntensityRelationshipSign=-1, **GEOMETRY
    )
    assert finding(examine(path), "warning", "looks like transmitted").give.startswith("--intensity transmitted")


def test_saturation_is_measured_in_the_field(examine, tmp_path, xray_pixels):
    clipped = np.minimum(xray_pixels, np.quantile(xray_pixels, 0.9)).astype(np.uint16)
    found = examine(write_xa(tmp_path / "x.dcm", clipped, PixelIntensityRelationship="LIN", **GEOMETRY))
    assert fact(found, "Pixels", "pixels with the highest grey").value == pytest.approx(0.1, abs=0.02)
    assert "clipped at the air end" in finding(found, "note", "clipped").sentence


def test_pictures_are_too_coarse_for_writing_and_absent_where_the_header_says_that_there_is_some(examine, xray_file):
    for picture in examine(xray_file(**GEOMETRY)).pictures:
        assert max(Image.open(io.BytesIO(picture.webp)).size) <= PICTURE_PX
    written = examine(xray_file(**GEOMETRY, BurnedInAnnotation="YES"))
    assert not written.pictures and finding(written, "note", "no picture is shown")


def test_volume_files_are_described(examine, tmp_path, phantom):
    nibabel = pytest.importorskip("nibabel")
    hu = np.full((8, 9, 10), -1000, np.int16)
    hu[2:6, 2:6, 2:6] = 700
    image = nibabel.Nifti1Image(hu, np.diag([-1.0, -1.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "ct.nii.gz")
    found = examine(tmp_path / "ct.nii.gz")
    assert (found.kind, found.status) == ("CT (NIfTI)", "ready")
    assert fact(found, "Geometry", "voxel size").value == [1.0, 1.0, 2.0]
    assert fact(found, "NIfTI header", "sform code").value > 0
    assert fact(found, "Geometry", "voxel size").source == "sform, xyzt_units"
    assert read_ct(tmp_path / "ct.nii.gz").fingerprint == fact(found, "Values", "fingerprint").value


def test_text_headers_are_shown_as_far_as_they_are_numbers_and_terms(examine, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    hu = np.full((5, 6, 7), -1000, np.int16)
    hu[1:4, 1:4, 1:4] = 700
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing([1.0, 1.5, 2.0])
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    found = examine(tmp_path / "ct.nrrd")
    assert found.kind == "CT (NRRD)"
    assert fact(found, "NRRD header", "space").value == "left-posterior-superior"
    content = (tmp_path / "ct.nrrd").read_bytes().replace(b"left-posterior-superior", b"left-posterior-zyxwold")
    (tmp_path / "ct.nrrd").write_bytes(content)
    assert fact(examine(tmp_path / "ct.nrrd"), "NRRD header", "space").value == "(unknown)"


def test_a_volume_under_another_name_is_examined_by_its_content(examine, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    hu = np.full((5, 6, 7), -1000, np.int16)
    hu[1:4, 1:4, 1:4] = 700
    image = nibabel.Nifti1Image(hu, np.diag([-1.0, -1.0, 2.0, 1.0]))
    nibabel.save(image, tmp_path / "ct.nii")
    (tmp_path / "ct.nii").rename(tmp_path / "ct.dcm")
    assert examine(tmp_path / "ct.dcm").kind == "CT (NIfTI)"


def test_the_geometry_of_a_secondary_capture_is_offered_and_not_used(examine, xray_file):
    found = examine(xray_file(**GEOMETRY, Modality="OT"))
    missing = finding(found, "missing", "if the numbers of its header hold")
    assert json.loads(missing.give)["k"][0] == 2000.0
    assert "secondary capture" in fact(found, "C-arm", "ImagerPixelSpacing").source
