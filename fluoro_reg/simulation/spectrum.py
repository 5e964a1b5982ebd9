"""The X-ray spectrum of a C-arm, and the attenuation of water, bone and metals at each energy.

The registration's renderer assumes a monochromatic beam. A real beam hardens: its low energies are absorbed within a few
centimetres, so bone in thick soft tissue has less contrast than its line integral predicts. Five energies, with water and bone
as basis materials, reproduce this effect and allow metal to be added.

Spectrum: Kramers' law with 3 mm of aluminium filtration, weighted by energy as in an energy-integrating detector. The
characteristic lines of tungsten are omitted because five bins would not resolve them. Mass attenuation: Hubbell and Seltzer,
NIST Standard Reference Database 126 (NISTIR 5632), tables 3 and 4 (water, cortical bone ICRU-44, Al, Ti, Fe), interpolated
log-log. Basis materials: Alvarez and Macovski, Phys. Med. Biol. 21 (1976) 733.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_ENERGY_KEV = np.array([20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])
_CM2_PER_G = {
    "water": np.array([0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505]),
    "bone": np.array([4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480]),
    "aluminium": np.array([3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378]),
    "titanium": np.array([15.85, 4.972, 2.214, 1.213, 0.7661, 0.4052, 0.2721, 0.1649]),
    "steel": np.array([25.68, 8.176, 3.629, 1.958, 1.205, 0.5952, 0.3717, 0.1964]),
}
_G_PER_CM3 = {"water": 1.0, "bone": 1.92, "aluminium": 2.699, "titanium": 4.54, "steel": 7.874}
_FILTER_MM = 3.0
_MINIMUM_KEV = 20.0
_BINS = 5


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A spectrum in bins.

    `energy_kev` are the energies, `weight` the fraction of the open beam's signal at each energy (sum 1), and `per_mm` the
    linear attenuation of each material at each energy, 1/mm.
    """

    energy_kev: Float[np.ndarray, "bins"]
    weight: Float[np.ndarray, "bins"]
    per_mm: dict[str, Float[np.ndarray, "bins"]]


def attenuation_per_mm(material: str, energy_kev: Float[np.ndarray, "bins"]) -> Float[np.ndarray, "bins"]:
    """Return the linear attenuation of a material at the given energies, 1/mm."""
    mass = np.exp(np.interp(np.log(energy_kev), np.log(_ENERGY_KEV), np.log(_CM2_PER_G[material])))
    return 0.1 * _G_PER_CM3[material] * mass


def tube_spectrum(peak_kv: float) -> Spectrum:
    """Return the filtered spectrum of a tungsten tube at `peak_kv`."""
    edges = np.linspace(_MINIMUM_KEV, peak_kv, _BINS + 1)
    energy = (edges[1:] + edges[:-1]) / 2
    photons = (peak_kv / energy - 1) * np.exp(-_FILTER_MM * attenuation_per_mm("aluminium", energy))
    signal = photons * energy
    per_mm = {material: attenuation_per_mm(material, energy) for material in _CM2_PER_G}
    return Spectrum(energy, signal / signal.sum(), per_mm)


def transmitted_fraction(
    spectrum: Spectrum, thickness_mm: dict[str, Float[np.ndarray, "height width"]]
) -> Float[np.ndarray, "height width"]:
    """Return the fraction of the open beam's signal that the given thickness of each material (mm) transmits.

    The Beer-Lambert law is applied at each energy.
    """
    total = 0.0
    for n, weight in enumerate(spectrum.weight):
        depth = sum(spectrum.per_mm[material][n] * thickness for material, thickness in thickness_mm.items())
        total = total + weight * np.exp(-depth)
    return np.asarray(total)
