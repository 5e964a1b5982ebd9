"""Conversion of Hounsfield units to linear attenuation. It happens in this module only.

HU measure the attenuation of a voxel relative to water in the CT's beam (120 kVp, filtered: about 70 keV effective). The beam
of a C-arm is softer (80 to 90 kVp behind a patient: about 60 keV effective). In a softer beam the attenuation of bone rises
more than that of water, because the photoelectric effect grows with calcium. The conversion is therefore bilinear: up to 100
HU, tissue is water of another density; above, it is a mixture with cortical bone, whose HU and attenuation determine the second
slope. Metal continues on the second slope, so that attenuation always grows with HU.

Below -950 HU the attenuation is exactly 0, so that the box around the patient is tight. The curve reaches the water line at
-850 HU without a jump, which interpolation would turn into an edge.

Sources: J. H. Hubbell and S. M. Seltzer, NIST Standard Reference Database 126 (NISTIR 5632), table 4: mass attenuation of
liquid water and of cortical bone (ICRU-44, 1.92 g/cm3) at 60 and 80 keV, with log-log interpolation between them for 70 keV.
The bilinear form: W. Schneider, T. Bortfeld, W. Schlegel, Phys. Med. Biol. 45 (2000) 459.
"""

import math

import numpy as np
from jaxtyping import Float32

from fluoro_reg.ct.hu_thresholds import AIR_MAXIMUM_HU, BONE_MIXTURE_MINIMUM_HU, CURVE_END_HU, WATER_LINE_MINIMUM_HU

EFFECTIVE_ENERGY_KEV = 60.0
CT_EFFECTIVE_ENERGY_KEV = 70.0
AIR_HU = -1000.0

_WATER_CM2_PER_G = {60.0: 0.2059, 80.0: 0.1837}
_BONE_CM2_PER_G = {60.0: 0.3148, 80.0: 0.2229}
_BONE_G_PER_CM3 = 1.92


def _attenuation_per_mm(cm2_per_g: dict[float, float], g_per_cm3: float, energy_kev: float) -> float:
    (e0, m0), (e1, m1) = cm2_per_g.items()
    fraction = math.log(energy_kev / e0) / math.log(e1 / e0)
    return 0.1 * g_per_cm3 * m0 * (m1 / m0) ** fraction


WATER_PER_MM = _attenuation_per_mm(_WATER_CM2_PER_G, 1.0, EFFECTIVE_ENERGY_KEV)
BONE_PER_MM = _attenuation_per_mm(_BONE_CM2_PER_G, _BONE_G_PER_CM3, EFFECTIVE_ENERGY_KEV)
_BONE_TO_WATER_IN_CT = _attenuation_per_mm(_BONE_CM2_PER_G, _BONE_G_PER_CM3, CT_EFFECTIVE_ENERGY_KEV) / _attenuation_per_mm(
    _WATER_CM2_PER_G, 1.0, CT_EFFECTIVE_ENERGY_KEV
)
BONE_HU = 1000.0 * (_BONE_TO_WATER_IN_CT - 1.0)


def _water_line(hu: float) -> float:
    """Return the attenuation of water whose density is scaled to `hu`, in 1/mm."""
    return WATER_PER_MM * (1.0 + hu / 1000.0)


_BONE_SLOPE = (BONE_PER_MM - _water_line(BONE_MIXTURE_MINIMUM_HU)) / (BONE_HU - BONE_MIXTURE_MINIMUM_HU)
_KNOTS_HU = np.array([AIR_MAXIMUM_HU, WATER_LINE_MINIMUM_HU, BONE_MIXTURE_MINIMUM_HU, CURVE_END_HU])
_KNOTS_PER_MM = np.array(
    [
        0.0,
        _water_line(WATER_LINE_MINIMUM_HU),
        _water_line(BONE_MIXTURE_MINIMUM_HU),
        _water_line(BONE_MIXTURE_MINIMUM_HU) + _BONE_SLOPE * (CURVE_END_HU - BONE_MIXTURE_MINIMUM_HU),
    ]
)


def attenuation_from_hu(hu: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Return the linear attenuation at 60 keV, in 1/mm; it is 0 for air and for padding below it.

    Example:
        >>> air, water = attenuation_from_hu(np.array([-1000, 0], np.float32))
        >>> float(air), round(float(water), 4)
        (0.0, 0.0206)
    """
    return np.interp(hu, _KNOTS_HU, _KNOTS_PER_MM).astype(np.float32)


def attenuation_of_tissue(hu: float) -> float:
    """Return `attenuation_from_hu` of a single value, in 1/mm."""
    return float(np.interp(hu, _KNOTS_HU, _KNOTS_PER_MM))
