"""What `fuzz.py` changes and reads: for each kind of input, valid files to begin with, and the reader."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import SimpleITK
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image

from fluoro_reg.carm.range import load_range
from fluoro_reg.ct.label_map import read_label_map
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume_files import read_grid
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bags import BagFrame, read_frames, write_bag
from fluoro_reg.formats.bodies import read_bodies
from fluoro_reg.formats.cameras import read_distorted_camera, write_camera
from fluoro_reg.formats.landmarks import read_landmarks, write_landmarks
from fluoro_reg.formats.poses import read_pose, write_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.learned.checkpoint import similarity_kind
from fluoro_reg.networks.safetensors_file import read_tensors, write_tensors
from fluoro_reg.registration.method import load_method
from fluoro_reg.regressor.checkpoint import KIND as REGRESSOR
from fluoro_reg.regressor.checkpoint import check_regressor
from fluoro_reg.ros import conversions
from fluoro_reg.ros.serialised import SerialisedImage
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import read_xray

ROOT = Path(__file__).resolve().parents[1]
CAMERA = CameraIntrinsics(24, 20, 100.0, 100.0, 11.5, 9.5, 1000.0)
PIXELS = np.add.outer(np.arange(20), 100 * np.arange(24)).astype(np.uint16)
HU = np.clip(np.add.outer(np.arange(6) * 200 - 1000, np.add.outer(np.arange(7) * 90, np.arange(8) * 40)), -1000, 1500)
PATIENT_FROM_VOXEL = np.array([[2.0, 0, 0, -8], [0, 2, 0, -7], [0, 0, 3, -9], [0, 0, 0, 1]])
BODIES = "reference: pelvis\nbodies:\n  pelvis: {labels: [sacrum, 77]}\n  leg: {labels: [75], joint: {sd_mm: 3, sd_deg: 8}}\n"


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        suffix: Of its files.
        seeds: Writes valid files of the kind to a folder.
        read: Reads one file, in a folder of its own with the rest of what belongs to it.
    """

    suffix: str
    seeds: Callable[[Path], object]
    read: Callable[[Path], object]


def write_slice(folder: Path) -> None:
    """One slice of a small CT."""
    files = write_dicom_series(folder / "all", HU.astype(np.float32), PATIENT_FROM_VOXEL)
    shutil.copy(files[2], folder)
    shutil.rmtree(folder / "all")


def read_slice(path: Path) -> object:
    """Read a CT in which one slice has been changed."""
    whole = path.parent / "ct"
    if not whole.is_dir():
        write_dicom_series(whole, HU.astype(np.float32), PATIENT_FROM_VOXEL)
    shutil.copy(path, whole / "slice_0003.dcm")
    return read_ct(whole)


def write_xa(folder: Path) -> None:
    """An X-ray with a position and distances, and one with a look-up table and signs."""
    for name in ("plain", "table"):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = XRayAngiographicImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
        data = FileDataset(name, {}, preamble=b"\0" * 128, file_meta=meta)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.Modality, data.Rows, data.Columns = "XA", *PIXELS.shape
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.DistanceSourceToDetector, data.DistanceSourceToPatient = 1000, 700
        data.PositionerPrimaryAngle, data.PositionerSecondaryAngle = 10, -5
        data.ImagerPixelSpacing, data.PixelIntensityRelationship = [0.5, 0.5], "LIN"
        data.PixelIntensityRelationshipSign = 1 if name == "plain" else -1
        if name == "table":
            data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 2, -10, "US"
            data.ShutterShape, data.ShutterLeftVerticalEdge, data.ShutterRightVerticalEdge = "RECTANGULAR", 2, 22
            data.ShutterUpperHorizontalEdge, data.ShutterLowerHorizontalEdge = 2, 18
        data.PixelData = PIXELS.tobytes()
        data.save_as(folder / f"{name}.dcm", enforce_file_format=True)


def write_png(folder: Path) -> None:
    """A 16-bit image."""
    cv2.imwrite(str(folder / "image.png"), PIXELS)


def write_grids(suffix: str) -> Callable[[Path], None]:
    """A CT and a segmentation in a format."""

    def write(folder: Path) -> None:
        for name, values in (("ct", HU.astype(np.int16)), ("labels", (HU > 0).astype(np.uint8))):
            image = SimpleITK.GetImageFromArray(values)
            image.SetSpacing((2.0, 2.0, 3.0))
            SimpleITK.WriteImage(image, str(folder / f"{name}{suffix}"))

    return write


def read_volume(path: Path) -> None:
    """Read a file as a CT and as a segmentation."""
    error: Exception | None = None
    for read in (read_grid, read_ct, read_label_map):
        try:
            read(path)
        except ValueError as one:
            error = one
    if error is not None:
        raise error


def write_messages(folder: Path) -> None:
    """An image, its camera and a pose, as they come over DDS."""
    image = conversions.image_message((PIXELS >> 8).astype(np.uint8), 5, "carm")
    camera = CameraInfo(width=24, height=20, k=[100.0, 0.0, 11.5, 0.0, 100.0, 9.5, 0.0, 0.0, 1.0])
    pose = PoseWithCovarianceStamped()
    pose.pose.pose.orientation.w = 1.0
    for name, message in (("0", image), ("1", camera), ("2", pose)):
        (folder / name).write_bytes(name.encode() + serialize_message(message))


def read_message(path: Path) -> object:
    """Interpret a message; its first byte says which one it is."""
    content = path.read_bytes()
    kind, data = content[:1], content[1:]
    if kind in (b"1", b"2"):
        try:
            message = deserialize_message(data, CameraInfo if kind == b"1" else PoseWithCovarianceStamped)
        except RuntimeError as error:  # in the node, rclpy drops what it cannot deserialise
            raise InputError("not a message") from error
    if kind == b"1":
        image = conversions.image_message(np.zeros((20, 24), np.uint8), 5, "carm")
        return conversions.xray_from_messages(image, message, Intensity.AUTO)
    if kind == b"2":
        return conversions.pose_from_message(message)
    camera = CameraInfo(width=24, height=20, k=[100.0, 0.0, 11.5, 0.0, 100.0, 9.5, 0.0, 0.0, 1.0])
    return conversions.xray_from_messages(SerialisedImage.of(data, Image).message(), camera, Intensity.AUTO)


def write_a_bag(storage: str) -> Callable[[Path], None]:
    """The file of a bag with two images."""

    def write(folder: Path) -> None:
        write_bag(folder / "bag", [BagFrame(10**9 * n, PIXELS, CAMERA) for n in (1, 2)], storage)
        for file in (folder / "bag").iterdir():
            if file.suffix != ".yaml":
                shutil.move(file, folder)
        shutil.rmtree(folder / "bag")

    return write


def read_weights(path: Path) -> None:
    """Read a file as weights of a regressor and, if it is none, of a similarity."""
    try:
        check_regressor(path)
    except InputError:
        similarity_kind(path)


def copies(*patterns: str) -> Callable[[Path], None]:
    """Files of this repository."""

    def write(folder: Path) -> None:
        for pattern in patterns:
            for file in ROOT.glob(pattern):
                shutil.copy(file, folder)

    return write


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def small_weights(folder: Path) -> None:
    """The header of the weights in this repository, and a few of their tensors."""
    tensors, header = read_tensors(ROOT / "models" / "phantom_regressor.safetensors", REGRESSOR)
    small = dict(sorted(tensors.items(), key=lambda item: item[1].numel())[:4])
    write_tensors(folder / "weights.safetensors", small, header)


POSE = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 2.0, 700.0], dtype=torch.float64))
TARGETS: Mapping[str, Target] = {
    "CT slice (DICOM)": Target(".dcm", write_slice, read_slice),
    "X-ray (DICOM)": Target(".dcm", write_xa, lambda path: read_xray(path, None)),
    "X-ray (PNG)": Target(".png", write_png, lambda path: read_xray(path, CAMERA)),
    "volume (NIfTI)": Target(".nii", write_grids(".nii"), read_volume),
    "volume (NRRD)": Target(".nrrd", write_grids(".nrrd"), read_volume),
    "volume (MetaImage)": Target(".mha", write_grids(".mha"), read_volume),
    "camera.json": Target(".json", lambda folder: write_camera(folder / "camera.json", CAMERA), read_distorted_camera),
    "pose.json": Target(".json", lambda folder: write_pose(folder / "pose.json", POSE), read_pose),
    "landmarks": Target(
        ".json", lambda folder: write_landmarks(folder / "points.json", torch.eye(3, dtype=torch.float64)), read_landmarks
    ),
    "range (YAML)": Target(".yaml", copies("config/views/*.yaml", "config/carm.yaml"), lambda path: load_range(str(path))),
    "method (YAML)": Target(".yaml", copies("config/methods/*.yaml"), load_method),
    "bodies (YAML)": Target(".yaml", text("bodies.yaml", BODIES), read_bodies),
    "weights": Target(".safetensors", small_weights, read_weights),
    "bag (MCAP)": Target(".mcap", write_a_bag("mcap"), lambda path: list(read_frames(path))),
    "bag (SQLite)": Target(".db3", write_a_bag("sqlite3"), lambda path: list(read_frames(path))),
    "ROS messages": Target(".cdr", write_messages, read_message),
}


def describe(error: BaseException) -> dict[str, Any]:
    """The type of an error and the innermost line of this package, which tell findings apart."""
    where, trace = "?", error.__traceback__
    while trace is not None:
        if "fluoro_reg" in trace.tb_frame.f_code.co_filename:
            where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return {"error": type(error).__name__, "where": where}
