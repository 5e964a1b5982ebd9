"""Settings of the simulated machine: tube, couch, collimator, detector and electronics. The defaults are an ideal machine."""

from dataclasses import dataclass

from fluoro_reg.config import option
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Settings of tube, couch, scatter, collimator, detector and electronics. Lengths are measured on the detector.

    The lengths of the couch are those of the couch itself.
    """

    peak_kv: float = option(80.0, "tube voltage", unit="kV", minimum=40, maximum=140)
    scatter_fraction: float = option(0.3, "fraction of scatter in the signal within the patient", minimum=0, maximum=0.9)
    scatter_width_mm: float = option(60.0, "standard deviation of the scatter kernel", unit="mm", minimum=1, maximum=500)
    blur_mm: float = option(0.5, "standard deviation of focal spot and scintillator blur", unit="mm", minimum=0, maximum=10)
    photons: float = option(2500.0, "detected photons per pixel at the median of the patient", minimum=1)
    electronic_noise: float = option(0.002, "standard deviation of read noise, fraction of full scale", minimum=0, maximum=0.2)
    exposure: float = option(
        0.4, "signal that automatic exposure gives the median of the patient, fraction of full scale", minimum=0.01, maximum=1
    )
    air_signal: float = option(
        0.0, "least signal of the open beam before the detector clips it, fraction of full scale", minimum=0, maximum=1000
    )
    offset: float = option(0.01, "dark signal, fraction of full scale", minimum=0, maximum=0.5)
    gamma: float = option(1.0, "exponent of the display curve; below 1 brightens dark regions", minimum=0.2, maximum=5)
    polarity: str = option(
        Intensity.TRANSMITTED.value,
        "what is stored: the signal, or its negative logarithm",
        choices=(Intensity.TRANSMITTED.value, Intensity.ATTENUATION.value),
    )
    heel: float = option(0.1, "loss of signal from the top of the image to the bottom, a fraction", minimum=0, maximum=0.8)
    vignetting: float = option(0.1, "loss of signal from the centre to the corners, a fraction", minimum=0, maximum=0.8)
    collimator: str = option("none", "shape of the collimated field", choices=("none", "rectangle", "circle"))
    collimator_opening: float = option(0.9, "size of the collimated field relative to the image", minimum=0.2, maximum=1.5)
    collimator_aspect: float = option(1.0, "height of the collimated field relative to its width", minimum=0.3, maximum=3)
    collimator_leak: float = option(0.004, "fraction of the beam that passes the collimator", minimum=0, maximum=1)
    collimator_edge_mm: float = option(
        0.0, "width over which the edge of the field falls from 88 % to 12 %", unit="mm", minimum=0, maximum=50
    )
    collimator_tilt_deg: float = option(
        0.0, "rotation of the collimated field in the image", unit="deg", minimum=-180, maximum=180
    )
    collimator_centre: tuple[float, float] = option(
        (0.0, 0.0), "centre (x, y) of the field, -1 to 1 across the image", minimum=-1, maximum=1
    )
    couch_width_mm: float = option(
        0.0, "width of the table top below the patient; 0: no couch", unit="mm", minimum=0, maximum=1000
    )
    couch_shift_mm: float = option(0.0, "shift of the couch to the patient's left", unit="mm", minimum=-1000, maximum=1000)
    couch_end_mm: float = option(
        1000.0,
        "distance of the couch's end from the middle of the CT, towards the feet",
        unit="mm",
        minimum=-1000,
        maximum=2000,
    )
    couch_turn_deg: float = option(0.0, "rotation of the couch about the vertical axis", unit="deg", minimum=-45, maximum=45)
