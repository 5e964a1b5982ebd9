"""Write the last frame to a folder that `fluoro-reg register` reads, to analyse a problem later (`~/save_debug`).

The bundle holds the pixels, the camera, the initial pose, the result and the version, but no metadata that identifies the
patient.
"""

import json
from pathlib import Path

import numpy as np

import fluoro_reg
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cameras import write_camera
from fluoro_reg.formats.poses import write_pose
from fluoro_reg.ros.options import DebugOptions
from fluoro_reg.ros.processor import ProcessedFrame


def save_bundle(options: DebugOptions, processed: ProcessedFrame) -> Path:
    """Write a bundle into a new folder in `debug.folder` and return that folder.

    Raises:
        InputError: `debug.folder` is not set, is full or cannot be written to.
    """
    if not options.folder:
        raise InputError("the parameter debug.folder is empty; set it to the folder to write bundles to")
    folder = Path(options.folder) / str(processed.frame.stamp_ns)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in folder.parent.iterdir()) >= options.maximum_bundles:
            raise InputError(f"debug.folder already holds {options.maximum_bundles} bundles or more; move some of them away")
        folder.mkdir(exist_ok=True)
        _write(folder, processed)
    except OSError as error:
        raise InputError(f"cannot write to debug.folder: {error.strerror}; check the parameter") from error
    return folder


def _write(folder: Path, processed: ProcessedFrame) -> None:
    result, xray = processed.result, processed.xray
    if xray is not None:
        np.save(folder / "image.npy", xray.pixels.cpu().numpy())
        write_camera(folder / "camera.json", xray.intrinsics)
    if result.initial_camera_from_patient is not None:
        write_pose(folder / "initial.json", result.initial_camera_from_patient)
    content = {**result.to_json(), "stamp_ns": processed.frame.stamp_ns, "version": fluoro_reg.__version__}
    (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
