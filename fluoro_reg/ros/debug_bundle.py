"""`~/save_debug`: the last frame as a folder that `fluoro-reg register` takes, so that a bad moment can be looked at later.

It holds pixels, camera, start, answer and versions; nothing that says who the patient is, the frame names of tf2 excepted.
"""

import json
from pathlib import Path

import numpy as np

import fluoro_reg
from fluoro_reg.errors import InputError
from fluoro_reg.formats.cameras import write_camera
from fluoro_reg.formats.poses import write_pose
from fluoro_reg.ros.options import DebugOptions
from fluoro_reg.ros.processor import Processed


def save_bundle(options: DebugOptions, processed: Processed) -> Path:
    """Writes the bundle and returns its folder.

    Raises:
        InputError: no folder is configured, it is full, or it cannot be written.
    """
    if not options.folder:
        raise InputError("the parameter debug.folder is empty; set it to where bundles may be written")
    folder = Path(options.folder) / str(processed.frame.stamp_ns)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if sum(1 for _ in folder.parent.iterdir()) >= options.maximum_bundles:
            raise InputError(f"debug.folder already holds {options.maximum_bundles} bundles or more; move them away")
        folder.mkdir(exist_ok=True)
        _write(folder, processed)
    except OSError as error:
        raise InputError(f"cannot write to debug.folder: {error.strerror}; check the parameter") from error
    return folder


def _write(folder: Path, processed: Processed) -> None:
    result, xray = processed.result, processed.xray
    if xray is not None:
        np.save(folder / "image.npy", xray.pixels.cpu().numpy())
        write_camera(folder / "camera.json", xray.intrinsics)
    if result.initial_camera_from_patient is not None:
        write_pose(folder / "initial.json", result.initial_camera_from_patient)
    content = {**result.to_json(), "stamp_ns": processed.frame.stamp_ns, "version": fluoro_reg.__version__}
    (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
