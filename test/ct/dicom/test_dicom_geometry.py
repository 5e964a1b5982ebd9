"""The position of a landmark in the patient, against the equation of PS3.3 C.7.6.2.1.1 and against SimpleITK."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from scipy.spatial.transform import Rotation

from fluoro_reg.ct.attenuation import attenuation_from_hu
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LANDMARK = (9, 4, 2)  # (i, j, k) as written
TILTED = (1.0, 0.0, 0.0, 0.0, np.cos(np.radians(18.5)), -np.sin(np.radians(18.5)))


def brightest_point(volume: CTVolume) -> torch.Tensor:
    """Return the brightest voxel, in patient mm."""
    k, j, i = np.unravel_index(int(volume.attenuation.argmax()), volume.attenuation.shape)
    return volume.points_patient(torch.tensor([[i, j, k]], dtype=torch.float64))[0]


def landmark_by_the_standard(position, orientation, spacing) -> list[float]:
    """Return equation C.7.6.2.1-1 of PS3.3 for the column and row of the landmark."""
    i, j, _ = LANDMARK
    row_spacing, column_spacing = spacing
    return list(
        np.array(position) + np.array(orientation[:3]) * column_spacing * i + np.array(orientation[3:]) * row_spacing * j
    )


def oblique() -> tuple[list[float], np.ndarray]:
    matrix = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
    return [*matrix[:, 0], *matrix[:, 1]], matrix[:, 2]


def positions_along(direction, steps, origin=(-31.5, 12.25, 100.0)) -> list[list[float]]:
    return [list(np.array(origin) + np.array(direction) * step) for step in steps]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("orientation", ["axial", "flipped rows", "sagittal", "oblique"])
def test_a_landmark_has_the_position_of_the_standard_and_of_simpleitk(writer, body, orientation, reverse):
    cosines, normal = {
        "axial": ([1, 0, 0, 0, 1, 0], [0, 0, 1]),
        "flipped rows": ([1, 0, 0, 0, -1, 0], [0, 0, -1]),
        "sagittal": ([0, 1, 0, 0, 0, -1], [-1, 0, 0]),
        "oblique": oblique(),
    }[orientation]
    spacing = (0.7, 1.3)
    positions = positions_along(normal, 2.5 * np.arange(6) * (-1 if reverse else 1))
    writer.write(body, positions, cosines, spacing, name=lambda k: f"{(7 * k) % 6}.dcm")
    volume = read_ct(writer.folder)
    found = brightest_point(volume).tolist()
    assert found == pytest.approx(landmark_by_the_standard(positions[LANDMARK[2]], cosines, spacing), abs=1e-6)
    assert found == pytest.approx(simpleitk_landmark(writer.folder), abs=1e-3)
    assert volume.voxel_size_mm == pytest.approx((1.3, 0.7, 2.5))
    assert torch.linalg.det(volume.patient_from_voxel[:3, :3]) > 0
    assert not volume.warnings


def simpleitk_landmark(folder: Path) -> tuple[float, ...]:
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    k, j, i = np.unravel_index(SimpleITK.GetArrayFromImage(image).argmax(), image.GetSize()[::-1])
    return image.TransformIndexToPhysicalPoint((int(i), int(j), int(k)))


def test_a_tilted_gantry_gives_a_sheared_grid_with_every_slice_at_its_position(writer, body):
    positions = positions_along([0, 0, 1], 4.0 * np.arange(6))
    writer.write(body, positions, TILTED, (0.5, 0.5))
    volume = read_ct(writer.folder)
    assert brightest_point(volume).tolist() == pytest.approx(
        landmark_by_the_standard(positions[2], TILTED, (0.5, 0.5)), abs=1e-6
    )
    assert volume.patient_from_voxel[:3, 2].tolist() == pytest.approx([0, 0, 4])
    origins = volume.points_patient(torch.tensor([[0, 0, k] for k in range(6)], dtype=torch.float64))
    assert torch.allclose(origins, torch.tensor(positions, dtype=torch.float64), atol=1e-6)
    assert any("18.5 degrees" in warning for warning in volume.warnings)


def test_a_changing_step_is_interpolated_from_true_positions(writer):
    """HU are linear along the stack, so that linear interpolation from the true positions is exact everywhere."""
    steps = np.concatenate([[0], np.cumsum([4.22] * 5 + [1.14] + [7.38] * 5)])
    ramp = -800.0 + 15.0 * steps
    writer.write(np.broadcast_to(ramp[:, None, None], (12, 5, 5)), positions_along([0, 0, 1], steps), TILTED, (0.5, 0.5))
    volume = read_ct(writer.folder)
    heights = (
        volume.points_patient(torch.tensor([[0, 0, k] for k in range(volume.shape_ijk[2])], dtype=torch.float64))[:, 2] - 100.0
    )
    expected = attenuation_from_hu((-800.0 + 15.0 * heights.numpy()).astype(np.float32))
    assert volume.attenuation[:, 2, 2].numpy() == pytest.approx(expected, abs=15 * 2e-5)  # headers round HU to integers
    assert heights[-1].item() == pytest.approx(steps[-1])
    assert volume.voxel_size_mm[2] <= 1.14
    assert any("5 x 4.22, 1 x 1.14, 5 x 7.38 mm" in warning for warning in volume.warnings)


def test_thin_then_thick_slices_are_at_nodes_of_the_fine_grid(writer, body):
    positions = positions_along([0, 0, 1], [0, 5, 10, 15, 25, 35, 45])
    writer.write(np.concatenate([body, body[-1:]]), positions)
    volume = read_ct(writer.folder)
    assert volume.shape_ijk == (16, 12, 10)
    assert brightest_point(volume).tolist() == pytest.approx(landmark_by_the_standard(positions[2], AXIAL, (1, 1)))
    thick = volume.attenuation[5, 5, 5]  # halfway between slices 3 and 4, both soft tissue
    assert thick.item() == pytest.approx(0.02059 * 1.04, rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([0, 5, 10, 20], "10.00 mm between slices 3 and 4 of 4"),
        ([0, 5, 10, 15, 25, 30, 35], "10.00 mm between slices 4 and 5 of 7"),
        ([0, 5, 10, 25, 30, 35, 40], "15.00 mm between slices 3 and 4 of 7"),
        ([0, 5, 10, 20, 30, 35, 40], "10.00 mm between slices 3 and 4 of 7"),
        ([0, 50, 55, 60, 65], "50.00 mm between slices 1 and 2 of 5"),
    ],
)
def test_the_error_for_a_missing_slice_contains_its_position_and_step(writer, steps, sentence):
    writer.write(np.zeros((len(steps), 4, 4)), positions_along([0, 0, 1], steps, (0, 0, 100)))
    with pytest.raises(InputError, match="missing") as caught:
        read_ct(writer.folder)
    assert sentence in str(caught.value)
    assert "z = " in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "warning_expected"),
    [
        ([0, 1.004, 2, 2.996, 4], False),  # within 1 %
        ([0, 1.03, 2, 3, 4], True),  # beyond it
        ([0, 5, 10, 15, 25, 35, 45], True),  # thin, then thick: a scan protocol, not a gap
    ],
)
def test_steps_within_one_percent_are_uniform_and_others_give_a_warning(writer, steps, warning_expected):
    writer.write(np.zeros((len(steps), 4, 4)), positions_along([0, 0, 1], steps))
    volume = read_ct(writer.folder)
    assert any("uneven" in warning for warning in volume.warnings) == warning_expected
    if not warning_expected:
        assert volume.shape_ijk[2] == len(steps)


def test_too_few_coincident_or_laterally_shifted_slices_are_rejected(new_writer):
    def error_of(name: str, positions: list[list[float]]) -> str:
        series = new_writer(name)
        series.write(np.zeros((len(positions), 4, 4)), positions)
        with pytest.raises(InputError) as caught:
            read_ct(series.folder)
        return str(caught.value)

    assert "have the same position" in error_of("one position", [[0, 0, 5]] * 4)
    assert "one slice is not a volume" in error_of("one", [[0, 0, 0]])
    assert "2 slices are not a volume" in error_of("two", [[0, 0, 0], [0, 0, 1]])
    assert "only 2 positions" in error_of("two positions", [[0, 0, 0], [0, 0, 1], [0, 0, 1]])
    assert "slice 3 of 4 is 2.00 mm off the line" in error_of("shifted", [[0, 0, 0], [0, 0, 1], [2, 0, 2], [0, 0, 3]])


def test_duplicates_with_equal_pixels_are_skipped_and_others_rejected(new_writer: Callable, body):
    positions = positions_along([0, 0, 1], 2.0 * np.arange(6))
    first = new_writer()
    first.write(body, positions)
    single = read_ct(first.folder)
    first.write(body[2:4], positions[2:4], name=lambda k: f"again{k}.dcm")
    duplicated = read_ct(first.folder)
    assert duplicated.fingerprint == single.fingerprint
    assert any("2 duplicate slices" in warning for warning in duplicated.warnings)
    first.write(body[2:3] + 1, positions[2:3], name=lambda k: f"other{k}.dcm")
    with pytest.raises(InputError, match="different pixels"):
        read_ct(first.folder)


def test_a_tilt_in_the_header_only_gives_a_warning(writer, body):
    writer.write(body, positions_along([0, 0, 1], range(6)), slice_fields=lambda k: {"GantryDetectorTilt": 12.0})
    assert any("12.0 degrees" in warning for warning in read_ct(writer.folder).warnings)
