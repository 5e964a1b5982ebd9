"""The Modality LUT or rescale of an X-ray, which maps stored values to those that the other items speak of.

pydicom applies it, with two gaps that are closed here. It subtracts the first value of a LUT in the type of the array, where 8
bits overflow, and in files of implicit VR with signed pixels it reads the number of entries, which is unsigned, as a negative
number.
"""

import warnings

import numpy as np
from jaxtyping import Float32, Num
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from fluoro_reg.errors import InputError


def apply_modality(dataset: Dataset, stored: Num[np.ndarray, "*shape"], name: str) -> Float32[np.ndarray, "*shape"]:
    """Return stored values after the Modality LUT or the rescale of a file; unchanged if it has neither.

    Args:
        dataset: The header.
        stored: Stored values.
        name: Name of the file in error messages.

    Raises:
        InputError: The LUT or the rescale is unusable.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings may quote values of the file
            for table in dataset.get("ModalityLUTSequence") or []:
                count, first, bits = table.LUTDescriptor
                table.add_new("LUTDescriptor", "SS", [int(count) % 65536, first, bits])
            return np.asarray(apply_modality_lut(stored.astype(np.int32), dataset), dtype=np.float32)
    except Exception as error:  # malformed tables raise errors of any class
        raise InputError(f"{name} has an unusable Modality LUT or rescale; export the image again") from error
