"""Options of the node. The ROS parameters are these options and those of `RegistrationOptions`, under the same names."""

from dataclasses import dataclass

from fluoro_reg.config import option, section

CHANGEABLE = ("gate.", "preprocess.", "debug.", "valid_timeout", "image_timeout", "maximum_image_age")  # while configured


@dataclass(frozen=True, slots=True)
class CTOptions:
    """The CT to register to."""

    path: str = option("", "the CT: a folder or file of DICOM, or a NIfTI, NRRD or MHA file")
    series: str = option("", "the DICOM series to use if the folder holds several; the error message lists them")


@dataclass(frozen=True, slots=True)
class BodiesOptions:
    """The bones that have poses of their own."""

    path: str = option("", "a bodies.yaml: the bones that move on their own, each with a frame; if empty, the CT is one body")


@dataclass(frozen=True, slots=True)
class LabelsOptions:
    """The segmentation of the CT."""

    path: str = option("", "with bodies.path: the segmentation that holds the labels of the bodies, in any format of --labels")


@dataclass(frozen=True, slots=True)
class SecondCameraOptions:
    """A second camera, as of a biplane C-arm, whose images arrive on `second/image` and `second/camera_info`."""

    path: str = option(
        "",
        "a JSON file with camera_from_first, such as a view.json: one pose must fit both cameras",
    )
    frame: str = option(
        "",
        "instead of second.path, the second camera's frame on tf2, whose pose is looked up at the stamps of the images; if "
        "both are empty, there is one camera",
    )
    tolerance: float = option(
        0.02, "largest difference between the stamps of two images of one moment", unit="s", minimum=0.0, maximum=1.0
    )

    @property
    def exists(self) -> bool:
        """Whether there is a second camera."""
        return bool(self.path or self.frame)


@dataclass(frozen=True, slots=True)
class InitialOptions:
    """The initial pose."""

    path: str = option("", "a pose.json; if empty, views are searched (initial.view) until a pose arrives on `initialpose`")


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """Frame names on tf2."""

    camera: str = option("", "the camera's frame; if empty, the frame_id of the image")
    patient: str = option("patient", "the patient's frame; with bodies.path, the frame of the reference body takes its place")
    anchor: str = option(
        "", "a frame that stays still, such as robot_base or table: with tf.mode anchored, the patient's parent"
    )


@dataclass(frozen=True, slots=True)
class QosOptions:
    """Quality of service."""

    image: str = option(
        "sensor_data",
        "QoS of `image` and `camera_info`; sensor_data (best effort) accepts every publisher, reliable only reliable ones",
        choices=("sensor_data", "reliable", "system_default"),
    )


@dataclass(frozen=True, slots=True)
class TfOptions:
    """The transform on tf2."""

    enable: bool = option(True, "publish accepted poses on /tf")
    mode: str = option(
        "direct",
        "the published edge: direct (camera -> patient), inverse (patient -> camera) or anchored (frames.anchor -> patient)",
        choices=("direct", "inverse", "anchored"),
    )
    timeout: float = option(
        0.5,
        "anchored, second.frame: how long to wait for a camera's pose at the image's stamp",
        unit="s",
        minimum=0.0,
        maximum=10.0,
    )
    maximum_gap: float = option(
        0.2,
        "anchored, second.frame: largest gap between two transforms on /tf to interpolate in",
        unit="s",
        minimum=0.001,
        maximum=10.0,
    )
    fuse: bool = option(False, "anchored: fuse accepted poses from several angles of the C-arm while the patient lies still")
    anchor_sd_mm: float = option(
        0.5, "fuse: standard deviation of the camera's position in the anchor", unit="mm", minimum=0.0, maximum=50.0
    )
    anchor_sd_deg: float = option(0.1, "fuse: the same of its rotation", unit="deg", minimum=0.0, maximum=10.0)


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """Debug images and bundles, which are made only on request."""

    rate: float = option(5.0, "maximum rate of `~/overlay` and `~/drr`", unit="Hz", minimum=0.1, maximum=100.0)
    folder: str = option("", "where `~/save_debug` writes the last frame; if empty, the service fails")
    maximum_bundles: int = option(
        50, "`~/save_debug` fails when the folder holds this many bundles", minimum=1, maximum=100_000
    )


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """All options of the node other than those of the registration."""

    autostart: bool = option(False, "configure and activate on start, without a lifecycle manager")
    ct: CTOptions = section(CTOptions)
    bodies: BodiesOptions = section(BodiesOptions)
    labels: LabelsOptions = section(LabelsOptions)
    second: SecondCameraOptions = section(SecondCameraOptions)
    initial: InitialOptions = section(InitialOptions)
    frames: FrameOptions = section(FrameOptions)
    intensity: str = option(
        "auto",
        "meaning of the pixel values: transmitted photons (bone dark), attenuation (bone bright), or auto to detect it",
        choices=("auto", "transmitted", "attenuation"),
    )
    undistort: bool = option(
        False, "undo the distortion that CameraInfo states in the pixels, with OpenCV; otherwise images with a D are rejected"
    )
    camera_matrix: str = option(
        "auto",
        "matrix of CameraInfo that holds for the pixels: k (raw image), p (rectified already, whatever D is), or auto (k, and "
        "images whose D is not zero or whose P differs from K are rejected)",
        choices=("auto", "k", "p"),
    )
    image_transport: str = option("raw", "subscribe to `image` (raw) or to `image/compressed`", choices=("raw", "compressed"))
    image_time_offset: float = option(
        0.0, "added to the stamp of each image, to correct a source with a known delay", unit="s", minimum=-10.0, maximum=10.0
    )
    maximum_image_age: float = option(
        0.0,
        "images older than this are rejected; 0 accepts any age, which a bag played without a clock needs",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    maximum_image_ahead: float = option(
        0.2,
        "images whose stamp lies further in the future are rejected, because the clocks disagree",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    restart_after: float = option(
        1.0,
        "tracking restarts when stamps stay in the past by this much or for this long, as in a looping bag",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    )
    camera_info_timeout: float = option(
        5.0, "warn when images have had no CameraInfo with the same stamp for this long", unit="s", minimum=0.1, maximum=3600.0
    )
    image_timeout: float = option(
        2.0, "the diagnostics warn when no image has arrived for this long", unit="s", minimum=0.1, maximum=3600.0
    )
    valid_timeout: float = option(
        1.0, "`~/valid` becomes false when no pose has been accepted for this long", unit="s", minimum=0.05, maximum=3600.0
    )
    computation_timeout: float = option(
        120.0,
        "a registration that takes longer is taken to hang, and the node ends itself with status 3",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
    )
    qos: QosOptions = section(QosOptions)
    tf: TfOptions = section(TfOptions)
    debug: DebugOptions = section(DebugOptions)
