"""Public data sets and own recordings as case folders: CT, X-ray, camera, true pose, landmarks, a start, like any other case.

Each is exported once, `cases_from_...(file, out_folder)`, and not read through a loader of its own at run time. So
whatever registers cases treats simulated, own and public ones alike and knows nothing of HDF5; a case that goes wrong can be
opened, looked at and sent to somebody; and the frames and flips of a foreign layout are settled in one place, where they can be
checked. The price is disk space: the CT of each specimen, and 16-bit images.

Frames of the files: both public data sets have a projective camera whose z points from the detector to the source, and store
images as seen from behind the detector. Ours looks along the rays, so that these images come out mirrored (`projective`).
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
