"""What a user may choose of the node; the ROS parameters are these options and those of `RegistrationOptions`, by name."""

from dataclasses import dataclass

from fluoro_reg.config import option, section


@dataclass(frozen=True, slots=True)
class CTOptions:
    """Which CT is registered to."""

    path: str = option("", "the CT: a folder or file of DICOM, or a NIfTI, NRRD or MHA file")
    series: str = option("", "which DICOM series, when the folder holds several; the refusal lists them")


@dataclass(frozen=True, slots=True)
class InitialOptions:
    """Where the first search begins."""

    path: str = option("", "a pose.json; empty: frames are rejected until a pose arrives on `initialpose`")


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """Names on tf2."""

    camera: str = option("", "parent frame of the transform; empty: the frame_id of the image")
    patient: str = option("patient", "child frame of the transform")


@dataclass(frozen=True, slots=True)
class QosOptions:
    """Quality of service."""

    image: str = option(
        "sensor_data",
        "of `image` and `camera_info`; sensor_data is best effort and hears everyone, reliable hears reliable publishers only",
        choices=("sensor_data", "reliable", "system_default"),
    )


@dataclass(frozen=True, slots=True)
class TfOptions:
    """The transform."""

    enable: bool = option(True, "publish accepted poses on /tf")


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """Pictures and bundles for people; none of it is made unless asked for."""

    rate: float = option(5.0, "`~/overlay` and `~/drr` come at most this often", unit="Hz", minimum=0.1, maximum=100.0)
    folder: str = option("", "where `~/save_debug` writes the last frame; empty: the service refuses")
    maximum_bundles: int = option(50, "`~/save_debug` refuses when the folder holds this many", minimum=1, maximum=100_000)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Everything about the node that is not about registering."""

    autostart: bool = option(False, "configure and activate on start, without a lifecycle manager")
    ct: CTOptions = section(CTOptions)
    initial: InitialOptions = section(InitialOptions)
    frames: FrameOptions = section(FrameOptions)
    intensity: str = option(
        "auto",
        "what the pixels are: photons (bone dark), line integrals (bone bright), or to be judged",
        choices=("auto", "transmitted", "attenuation"),
    )
    image_transport: str = option("raw", "listen to `image`, or to `image/compressed`", choices=("raw", "compressed"))
    image_time_offset: float = option(
        0.0, "added to the image's stamp, for a source that stamps late by a known time", unit="s", minimum=-10.0, maximum=10.0
    )
    maximum_image_age: float = option(
        0.0,
        "older images are rejected; 0: any age, as bags need that play without a clock",
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    )
    restart_after: float = option(
        1.0,
        "stamps that stay further in the past than this begin anew, as in a bag that loops",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    )
    camera_info_timeout: float = option(
        5.0, "warn when images find no CameraInfo of their stamp for this long", unit="s", minimum=0.1, maximum=3600.0
    )
    valid_timeout: float = option(
        1.0, "`~/valid` turns false when no pose was accepted for this long", unit="s", minimum=0.05, maximum=3600.0
    )
    qos: QosOptions = section(QosOptions)
    tf: TfOptions = section(TfOptions)
    debug: DebugOptions = section(DebugOptions)
