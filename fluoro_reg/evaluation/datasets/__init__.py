"""Export of public data sets and recordings as case folders: CT, X-ray, camera, true pose, landmarks and initial pose.

Each data set is exported once by `cases_from_...(file, out_folder)` and not read by its own loader at run time. Simulated,
recorded and public cases are then registered by the same code, which needs no HDF5. A failed case can be opened, inspected and
shared. Coordinate frames and image flips of each layout are converted in one place, where they can be tested. The disadvantage
is the disk space for the CT of each specimen and for 16-bit images.

Both public data sets have a projective camera whose z axis points from the detector to the source, and store images as seen
from the other side of the detector. The camera of this package looks along the rays, so exported images are mirrored
(`projective`).
"""

from fluoro_reg.evaluation.datasets.deepfluoro import DeepFluoroOptions, cases_from_deepfluoro
from fluoro_reg.evaluation.datasets.export import InitialPoseOptions
from fluoro_reg.evaluation.datasets.ljubljana import LjubljanaOptions, cases_from_ljubljana
from fluoro_reg.evaluation.datasets.own_recording import RecordingFiles, cases_from_recording

__all__ = [
    "DeepFluoroOptions",
    "InitialPoseOptions",
    "LjubljanaOptions",
    "RecordingFiles",
    "cases_from_deepfluoro",
    "cases_from_ljubljana",
    "cases_from_recording",
]
