"""Small files in the layouts of the data sets, written from their documentation without the camera frame of this package.

Images are line integrals along the rays of P = K [R | t], given to the renderer as a source and a matrix of directions.
A dark spot marks one landmark in each view, so that image and landmark must be transformed together.
"""

from pathlib import Path

import h5py
import numpy as np
import torch
from scipy.spatial import cKDTree

from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.rendering import Rays, make_renderer
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu, phantom_landmarks

PHANTOM = PhantomOptions(spacing_mm=(5.0, 5.0, 5.0))
ROWS, COLUMNS = 104, 112
SPACING = (2.9, 3.1)  # column, row
SOURCE_TO_DETECTOR = 1020.0
K = np.array([[-SOURCE_TO_DETECTOR / 2.9, 0, 60.3], [0, -SOURCE_TO_DETECTOR / 3.1, 48.9], [0, 0, 1]])
EXTRINSIC = np.array(  # as published with the DeepFluoro data
    [
        [0.0014173903, 5.773302e-6, 0.9999991, -157.58221],
        [-0.99999076, -0.004075836, 0.0014174007, -2.6757495],
        [0.0040758415, -0.99999183, 0.0, -631.7765],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
AIR = 65487.0
HARDNESS = 0.4  # factor of the line integrals, so that 16 bits resolve thick tissue

# The landmark marked by a spot in each view.
SPOTS = {"000": "FH-l", "002": "MOF-r", "003": "GSN-l"}
NAMES = {
    "ASIS-l": "anterior_superior_iliac_spine_left",
    "FH-l": "femoral_head_centre_left",
    "FH-r": "femoral_head_centre_right",
    "GSN-l": "ischial_spine_left",
    "MOF-r": "ischial_tuberosity_right",
    "SPS-l": "pubic_tubercle_left",
}
UPSIDE_DOWN = ("002",)
ROTATIONS = {"000": (0.0, 0.0, 0.0), "002": (0.2, 0.1, np.pi), "003": (-0.3, 0.15, 0.1)}


def rotation_matrix(x: float, y: float, z: float) -> np.ndarray:
    """Return the rotation about x, then y, then z (rad)."""
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (x, y, z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def towards_source(centre: np.ndarray, angles: tuple[float, float, float], depth: float) -> np.ndarray:
    """Return camera_from_patient with z towards the source and `centre` at `depth`, rotated from an anterior view."""
    front_view = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # columns to the left, rows to the feet, z to the back
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(*angles) @ front_view
    pose[:3, 3] = np.array([4.0, -3.0, -depth]) - pose[:3, :3] @ centre
    return pose


def projected(points: np.ndarray, k: np.ndarray, camera_from_points: np.ndarray) -> np.ndarray:
    """Return (column, row) as documented for the layout: K X divided by its third component."""
    homogeneous = (k @ camera_from_points[:3] @ np.c_[points, np.ones(len(points))].T).T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def line_integrals(volume: CTVolume, k: np.ndarray, camera_from_patient: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the line integrals along the rays of K and the pose, for any sign of depth and handedness of axes."""
    rotation, shift = camera_from_patient[:3, :3], camera_from_patient[:3, 3]
    voxel_from_patient = np.linalg.inv(volume.patient_from_voxel.numpy())
    source = voxel_from_patient @ np.r_[-np.linalg.solve(rotation, shift), 1]
    direction = voxel_from_patient[:3, :3] @ np.linalg.inv(rotation) @ np.linalg.inv(k) * np.sign(k[0, 0])
    rays = Rays(torch.from_numpy(source[None, :3]), torch.from_numpy(direction[None]), rows, columns)
    return make_renderer(volume, "cpu").integrals(rays)[0].double().numpy()


def spot(at: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return a Gaussian spot with value 1 at (column, row), whose centroid is exact."""
    row, column = np.mgrid[:rows, :columns]
    return np.exp(-((column - at[0]) ** 2 + (row - at[1]) ** 2) / 2 / 1.5**2)


def write_image(group: h5py.Group, pixels: np.ndarray, spacing: tuple[float, ...], origin: np.ndarray) -> None:
    """Write an image or volume group as documented, with column vectors."""
    n = pixels.ndim
    group["pixels"], group["dir-mat"] = pixels, np.eye(n)
    group["spacing"], group["origin"] = np.array(spacing).reshape(n, 1), np.asarray(origin).reshape(n, 1)


def named_landmarks() -> dict[str, np.ndarray]:
    """Return points of the phantom under the names of the data set."""
    points = phantom_landmarks(PHANTOM)
    return {name: points[ours].numpy() for name, ours in NAMES.items()}


def write_deepfluoro(path: Path) -> None:
    """Write one specimen, 17-1882, with three views; image 002 is upside down."""
    hu, patient_from_voxel = phantom_hu(PHANTOM)
    volume = volume_from_hu(hu.copy(), patient_from_voxel)
    landmarks = named_landmarks()
    centre = np.mean(list(landmarks.values()), axis=0)
    with h5py.File(path, "w") as file:
        parameters = file.create_group("proj-params")
        parameters["intrinsic"], parameters["extrinsic"] = K.astype(np.float32), EXTRINSIC.astype(np.float32)
        parameters["num-rows"], parameters["num-cols"] = ROWS, COLUMNS
        parameters["pixel-col-spacing"], parameters["pixel-row-spacing"] = SPACING
        specimen = file.create_group("17-1882")
        write_image(specimen.create_group("vol"), hu, PHANTOM.spacing_mm, patient_from_voxel[:3, 3])
        labels = np.zeros(hu.shape, np.uint8)
        labels[:10, 20:30, 20:30], labels[:10, 20:30, 40:50], labels[20:, 20:30, 30:40] = 5, 6, 1
        write_image(specimen.create_group("vol-seg/image"), labels, PHANTOM.spacing_mm, patient_from_voxel[:3, 3])
        for name, point in landmarks.items():
            specimen[f"vol-landmarks/{name}"] = point.reshape(3, 1).astype(np.float32)
        for name, angles in ROTATIONS.items():
            _write_view(
                specimen.create_group(f"projections/{name}"), name, volume, landmarks, towards_source(centre, angles, 760)
            )


def _write_view(
    view: h5py.Group, name: str, volume: CTVolume, landmarks: dict[str, np.ndarray], camera_from_patient: np.ndarray
) -> None:
    annotations = dict(zip(landmarks, projected(np.stack(list(landmarks.values())), K, camera_from_patient), strict=True))
    thickness = line_integrals(volume, K, camera_from_patient, ROWS, COLUMNS)
    intensity = AIR * np.exp(-HARDNESS * thickness - 0.5 * spot(annotations[SPOTS[name]], ROWS, COLUMNS))
    write_image(view.create_group("image"), intensity.astype(np.float32), SPACING, np.zeros(2))
    for landmark, pixel in annotations.items():
        view[f"gt-landmarks/{landmark}"] = pixel.reshape(2, 1)
    patient_from_world = np.linalg.inv(camera_from_patient) @ EXTRINSIC
    view["gt-poses/cam-to-pelvis-vol"] = patient_from_world.astype(np.float32)
    view["rot-180-for-up"] = int(name in UPSIDE_DOWN)


VESSEL_VIEWS = {"ap": (0.1, -0.2, 0.05), "lat": (0.0, 1.4, -0.1)}
VESSEL_SIZES = {"ap": (72, 64), "lat": (60, 80)}  # rows, columns: each view has its own camera
VESSEL_SPACING = (1.2, 1.2)


def write_ljubljana(path: Path, left_handed: bool) -> None:
    """Write subject01 with two views of three curved vessels; the extrinsic is a rotation or a reflection."""
    world_from_voxel = np.diag([1.1, 0.9, 1.3, 1.0])
    world_from_voxel[:3, 3] = (-21.0, 4.0, 33.0)
    values, points_voxel = _vessels((44, 52, 40))
    points = points_voxel @ world_from_voxel[:3, :3] + world_from_voxel[:3, 3]
    hu = np.where(values >= 1000, values, -1000).astype(np.float32)
    volume = volume_from_hu(hu.transpose(2, 1, 0).copy(), world_from_voxel)
    centre = volume.centre_patient.numpy()
    with h5py.File(path, "w") as file:
        subject = file.create_group("subject01")
        subject["volume/pixels"] = values[::-1].astype(np.float32)
        subject["volume/spacing"], subject["volume/origin"] = np.diag(world_from_voxel)[:3], world_from_voxel[:3, 3]
        subject["points"] = points
        for name, angles in VESSEL_VIEWS.items():
            rows, columns = VESSEL_SIZES[name]
            focal = -1250 / VESSEL_SPACING[0]
            k = np.array([[focal, 0, columns / 2 + 3], [0, focal, rows / 2 - 4], [0, 0, 1.0]])
            pose = np.diag([-1.0 if left_handed else 1.0, 1, 1, 1]) @ towards_source(centre, angles, 800)
            view = subject.create_group(f"proj-{name}")
            view["pixels"] = (0.9 - 0.3 * line_integrals(volume, k, pose, rows, columns)).astype(np.float32)
            view["intrinsic"], view["extrinsic"] = k, pose
            view["row-spacing"], view["col-spacing"] = VESSEL_SPACING


def _vessels(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return values [x, y, z] of tubes (3000) in a background of 200 to 300, and points on their centre lines (voxels)."""
    t = np.linspace(0, 1, 60)
    centre_lines = [
        np.stack([8 + 10 * t, 10 + 30 * t, 20 + 8 * np.sin(4 * t)], axis=1),
        np.stack([18 + 20 * t, 40 - 12 * t**2, 14 + 20 * t], axis=1),
        np.stack([12 + 4 * np.sin(6 * t), 8 + 8 * t, 8 + 25 * t], axis=1),
    ]
    points = np.concatenate(centre_lines)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance, _ = cKDTree(points).query(grid)
    background = 200 + 100 * np.random.default_rng(0).random(shape)
    return np.where(distance < 1.8, 3000.0, background), points
