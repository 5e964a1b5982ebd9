"""RescaleType is free text: words for HU are accepted, other quantities rejected, and the rest accepted with a warning."""

import pytest

from fluoro_reg.ct.dicom.quantity import UNKNOWN_QUANTITY
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

POSITIONS = [[0.0, 0.0, 2.0 * k] for k in range(6)]

HOUNSFIELD = [
    "HU",
    "hu",
    "H.U.",
    "HUs",
    "Hounsfield Unit",
    "HOUNSFIELD UNITS",
    "hounsfield_units",
    "Hounsfield",
    "Unidades Hounsfield",
    "Hounsfield-Einheiten",
    "HE",
    "UH",
    "[HU]",
    "HU_MOD",
    "CT number",
    "CT_Value",
    "US",
    "Unspecified",
    "",
]


@pytest.mark.parametrize("words", HOUNSFIELD)
def test_words_for_hounsfield_units_are_accepted(writer, body, words):
    writer.write(body, POSITIONS, slice_fields=lambda k: {"RescaleType": words})
    volume = read_ct(writer.folder)
    assert volume.hu_range == (-1000.0, 1200.0) and volume.is_hu
    assert UNKNOWN_QUANTITY not in volume.warnings


@pytest.mark.parametrize(
    "words",
    ["MGML", "OD", "Z_EFF", "ED", "EDW", "PCT", "Electron Density", "mg/ml", "Iodine (mg/ml)", "1/cm", "cm^-1", "percent", "%"],
)
def test_words_for_another_quantity_are_rejected(writer, body, words):
    writer.write(body, POSITIONS, slice_fields=lambda k: {"RescaleType": words})
    with pytest.raises(InputError, match="a quantity other than Hounsfield units"):
        read_ct(writer.folder)


@pytest.mark.parametrize("words", ["normal", "Arbitrary", "GREYSCALE", "Smith^John"])
def test_other_words_are_accepted_with_a_warning_that_does_not_repeat_them(writer, body, words):
    writer.write(body, POSITIONS, slice_fields=lambda k: {"RescaleType": words})
    volume = read_ct(writer.folder)
    assert UNKNOWN_QUANTITY in volume.warnings
    assert words not in " ".join(volume.warnings)
