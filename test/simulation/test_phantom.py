"""The phantom: its bones lie at its landmarks and are built like bones, and DICOM reproduces the volume."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from scipy import ndimage

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import (
    PhantomOptions,
    phantom_hu,
    phantom_labels,
    phantom_landmarks,
    phantom_volume,
)

OPTIONS = PhantomOptions(spacing_mm=(3.0, 3.0, 3.0), noise_hu=0.0)


class Phantom:
    """A phantom whose HU are looked up in patient mm."""

    def __init__(self, options: PhantomOptions) -> None:
        self.hu, self.patient_from_voxel = phantom_hu(options)
        self.landmarks = {name: point.numpy() for name, point in phantom_landmarks(options).items()}
        self.voxel_mm = float(options.spacing_mm[0])

    def voxel(self, point: np.ndarray) -> np.ndarray:
        """(k, j, i), not rounded."""
        return np.linalg.solve(self.patient_from_voxel[:3, :3], point - self.patient_from_voxel[:3, 3])[::-1]

    def at(self, *points: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(self.hu, np.stack([self.voxel(p) for p in points], axis=-1), order=1, cval=-1000)

    def ball(self, point: np.ndarray, radius: float) -> np.ndarray:
        """All HU within `radius` mm."""
        k, j, i = np.indices(self.hu.shape, sparse=True)
        c = self.voxel(point)
        return self.hu[(k - c[0]) ** 2 + (j - c[1]) ** 2 + (i - c[2]) ** 2 < (radius / self.voxel_mm) ** 2]

    def bone_thickness_along_y(self) -> np.ndarray:
        """Bone along y in mm, indexed [k, i]."""
        return (self.hu > 180).sum(axis=1) * self.voxel_mm


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(OPTIONS)


def test_every_landmark_lies_at_bone(phantom: Phantom) -> None:
    assert len(phantom.landmarks) >= 8
    for name, point in phantom.landmarks.items():
        assert phantom.ball(point, 7).max() > 300, name


def test_tissues_have_their_densities(phantom: Phantom) -> None:
    hu = phantom.hu
    assert hu.max() > 700 and hu.max() < 1300, "cortical bone"
    fraction = {
        name: np.mean((hu > low) & (hu < high))
        for name, low, high in [("fat", -120, -70), ("muscle", 30, 80), ("marrow", 200, 420), ("gas", -1024, -900)]
    }
    assert 0.1 < fraction["fat"] < 0.5 and 0.1 < fraction["muscle"] < 0.6 and 0.005 < fraction["marrow"] < 0.1
    inside = ndimage.binary_fill_holes(hu > -500)
    assert 1e-4 < np.mean(hu[inside] < -800) < 0.03, "some gas in the bowel, but not too much"


def test_a_femoral_head_has_marrow_a_cortical_shell_and_a_joint_space(phantom: Phantom) -> None:
    for side, outwards in (("left", 1.0), ("right", -1.0)):
        centre = phantom.landmarks[f"femoral_head_centre_{side}"]
        medial = np.array([-outwards, 0, 0])
        assert 150 < phantom.ball(centre, 12).mean() < 420
        profile = phantom.at(*[centre + r * medial for r in np.arange(0, 45, 0.5)])
        shell = np.flatnonzero(profile == profile[30:54].max())[0] * 0.5
        space = profile[int(2 * shell) : int(2 * shell) + 16].min()
        assert 19 < shell < 25, "the cortical shell at the head's radius"
        assert space < profile[30:54].max() - 200, "a joint space between head and socket"


def test_the_femoral_shaft_is_a_hollow_tube(phantom: Phantom) -> None:
    head = phantom.landmarks["femoral_head_centre_left"]
    k = round(float(phantom.voxel(head + np.array([0, 0, -100.0]))[0]))
    plane = phantom.hu[k] > 180
    labels, n = ndimage.label(plane)
    shafts = [labels == m + 1 for m in range(n) if (labels == m + 1).sum() * phantom.voxel_mm**2 > 400]
    assert len(shafts) == 2, "at this height there are two femurs and no other bone"
    for shaft in shafts:
        rim, core = shaft & ~ndimage.binary_erosion(shaft, iterations=2), ndimage.binary_erosion(shaft, iterations=3)
        assert phantom.hu[k][rim].max() > 1000 and phantom.hu[k][core].min() < 500


def test_obturator_and_sacral_foramina_are_visible_from_the_front(phantom: Phantom) -> None:
    thickness = phantom.bone_thickness_along_y()
    tubercle, tuberosity = phantom.landmarks["pubic_tubercle_left"], phantom.landmarks["ischial_tuberosity_left"]
    head = phantom.landmarks["femoral_head_centre_left"]
    k, _, i = np.round(phantom.voxel((tubercle + tuberosity + head) / 3)).astype(int)
    hole = ndimage.label(thickness == 0)[0]
    label = hole[k, i]
    assert label > 0, "only soft tissue between pubis, ischium and socket"
    assert 400 < (hole == label).sum() * phantom.voxel_mm**2 < 4000, "a closed ring of bone around it"
    fine = Phantom(replace(OPTIONS, spacing_mm=(2.0, 2.0, 2.0)))
    promontory = fine.voxel(fine.landmarks["sacral_promontory"])
    sacrum = fine.bone_thickness_along_y()[int(promontory[0]) - 45 : int(promontory[0]), :]
    thin = ndimage.label(sacrum < 0.5 * ndimage.median_filter(sacrum, 15))[0]
    spots = thin[:, int(promontory[2]) - 15 : int(promontory[2]) + 16]
    assert len(np.unique(spots)) - 1 >= 4, "several thin spots in the sacrum"


def test_hips_femurs_and_spine_are_separate_bones(phantom: Phantom) -> None:
    fine = Phantom(replace(OPTIONS, spacing_mm=(1.5, 1.5, 1.5), size_mm=(300.0, 140.0, 90.0)))
    labels, _ = ndimage.label(fine.hu > 450)

    def bone_at(name: str) -> int:
        k, j, i = np.round(fine.voxel(fine.landmarks[name])).astype(int)
        window = labels[k - 4 : k + 5, j - 4 : j + 5, i - 4 : i + 5]
        return int(np.bincount(window[window > 0]).argmax())

    trochanter, ischium = bone_at("greater_trochanter_tip_left"), bone_at("ischial_spine_left")
    assert trochanter != ischium
    assert len({trochanter, ischium, bone_at("ischial_spine_right"), bone_at("greater_trochanter_tip_right")}) == 4


def test_landmarks_lie_in_the_right_directions(phantom: Phantom) -> None:
    spine, crest = phantom.landmarks["anterior_superior_iliac_spine_left"], phantom.landmarks["iliac_crest_top_left"]
    symphysis, coccyx = phantom.landmarks["pubic_symphysis"], phantom.landmarks["coccyx_tip"]
    assert spine[0] > 90 and phantom.landmarks["anterior_superior_iliac_spine_right"][0] < -90
    assert symphysis[1] < coccyx[1] - 60 and crest[2] > symphysis[2] + 100


def test_a_mirrored_phantom_differs_from_the_original(phantom: Phantom) -> None:
    def mismatch(options: PhantomOptions) -> float:
        cortex = phantom_hu(options)[0] > 500  # partial voxels contain some texture, which is never symmetric
        return float(np.mean(cortex != cortex[:, :, ::-1]) / cortex.mean())

    symmetric = replace(OPTIONS, asymmetry=0.0)
    assert mismatch(symmetric) < 0.15, "without asymmetry the cortex is mirror symmetric"
    assert mismatch(OPTIONS) > 0.8


def test_the_phantom_depends_on_its_options_alone(phantom: Phantom) -> None:
    again, _ = phantom_hu(OPTIONS)
    other, _ = phantom_hu(replace(OPTIONS, seed=1))
    assert np.array_equal(again, phantom.hu) and np.mean(other != phantom.hu) > 0.2
    noisy, _ = phantom_hu(replace(OPTIONS, noise_hu=20.0))
    assert np.std((noisy - phantom.hu)[phantom.hu > -900]) == pytest.approx(20, rel=0.02)
    no_gas, _ = phantom_hu(replace(OPTIONS, bowel_gas=0.0))
    assert (ndimage.binary_fill_holes(no_gas > -500) & (no_gas < -500)).sum() == 0


def test_a_woman_has_a_wider_pubic_arch_and_a_child_is_smaller() -> None:
    def width(options: PhantomOptions, name: str) -> float:
        points = phantom_landmarks(replace(options, asymmetry=0.0))
        return float((points[f"{name}_left"] - points[f"{name}_right"]).norm())

    woman, man = OPTIONS, replace(OPTIONS, sex="male")
    assert width(woman, "ischial_tuberosity") > 1.08 * width(man, "ischial_tuberosity")
    child = replace(man, scale=0.7)
    assert width(child, "iliac_crest_top") == pytest.approx(0.7 * width(man, "iliac_crest_top"))


def test_the_bones_do_not_depend_on_the_voxel_size() -> None:
    def bone_mass(spacing: tuple[float, float, float]) -> float:
        hu, _ = phantom_hu(replace(OPTIONS, spacing_mm=spacing, size_mm=(384.0, 282.0, 342.0)))
        return float(np.clip(hu - 60, 0, None).sum()) * float(np.prod(spacing))

    assert bone_mass((3.0, 3.0, 3.0)) == pytest.approx(bone_mass((2.0, 2.0, 2.0)), rel=0.05)
    assert bone_mass((2.0, 2.0, 3.0)) == pytest.approx(bone_mass((2.0, 2.0, 2.0)), rel=0.05)


def test_the_dicom_series_reads_back_as_the_same_volume(phantom: Phantom, tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "ct", phantom.hu, phantom.patient_from_voxel)
    read, direct = read_ct(tmp_path / "ct"), phantom_volume(OPTIONS)
    assert len(files) == phantom.hu.shape[0]
    assert read.fingerprint == direct.fingerprint
    np.testing.assert_allclose(read.patient_from_voxel, phantom.patient_from_voxel, atol=1e-9)
    np.testing.assert_array_equal(read.attenuation, direct.attenuation)


def test_simpleitk_reads_the_same_series(phantom: Phantom, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    rotation = np.eye(4)
    rotation[:3, :3] = rotation_about_z(25.0)
    files = write_dicom_series(tmp_path, phantom.hu, rotation @ phantom.patient_from_voxel)
    image = sitk.ReadImage([str(file) for file in files])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), phantom.hu)
    corner = np.array(phantom.hu.shape[::-1]) - 1
    expected = rotation @ phantom.patient_from_voxel @ [*corner, 1]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint([int(c) for c in corner]), expected[:3], atol=1e-4)


def rotation_about_z(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def test_a_slice_is_a_ct_image_without_patient_data(phantom: Phantom, tmp_path: Path) -> None:
    file = write_dicom_series(tmp_path, phantom.hu[:4], phantom.patient_from_voxel)[2]
    data = pydicom.dcmread(file)
    assert data.SOPClassUID == pydicom.uid.CTImageStorage and data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
    assert str(data.PatientName) == data.PatientID == "PHANTOM"
    assert not data.PatientBirthDate and not data.StudyDate and "InstitutionName" not in data
    assert (data.BitsAllocated, data.PixelRepresentation, data.Modality) == (16, 1, "CT")
    np.testing.assert_array_equal(data.pixel_array * float(data.RescaleSlope) + data.RescaleIntercept, phantom.hu[2])


def test_a_volume_that_dicom_cannot_hold_is_rejected(phantom: Phantom, tmp_path: Path) -> None:
    sheared = phantom.patient_from_voxel.copy()
    sheared[0, 1] = 1.0
    with pytest.raises(InputError, match="perpendicular"):
        write_dicom_series(tmp_path, phantom.hu[:4], sheared)
    with pytest.raises(InputError, match="16 bits"):
        write_dicom_series(tmp_path, phantom.hu[:4] + np.float32(40000), phantom.patient_from_voxel)


def test_the_labels_of_the_phantom_lie_on_its_bones():
    options = PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))
    hu, patient_from_voxel = phantom_hu(options)
    segmentation = phantom_labels(options)
    labels = segmentation.labels.numpy()
    assert np.allclose(segmentation.patient_from_voxel.numpy(), patient_from_voxel)
    assert sorted(np.unique(labels).tolist()) == [0, 25, 27, 28, 29, 75, 76, 77, 78]
    assert np.median(hu[labels > 0]) > 250 > np.median(hu[labels == 0])
    head = segmentation.patient_from_voxel.inverse() @ torch.tensor(
        [*phantom_landmarks(options)["femoral_head_centre_left"], 1.0]
    )
    i, j, k = head[:3].round().long().tolist()
    assert labels[k, j, i] == 75


def test_the_same_grid_gives_the_same_files(tmp_path):
    hu, patient_from_voxel = phantom_hu(PhantomOptions(spacing_mm=(30.0, 30.0, 60.0)))
    once, again = (write_dicom_series(tmp_path / name, hu, patient_from_voxel) for name in ("once", "again"))
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]
    other = write_dicom_series(tmp_path / "other", hu + 1, patient_from_voxel)
    uids = {pydicom.dcmread(files[0]).SeriesInstanceUID for files in (once, other)}
    assert len(uids) == 2
