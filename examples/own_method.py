"""Register with a method of your own, here an installed method with a different last stage; a YAML file works too.

python examples/own_method.py ct_folder xray.png camera.json initial.json
"""

import dataclasses
import sys

import fluoro_reg as fr
from fluoro_reg.similarity import PatchNCC


def main(ct_path: str, xray_path: str, camera_path: str, initial_path: str) -> fr.RegistrationResult:
    named = fr.load_method("lm-gradient-ncc")
    *coarse, finest = named.stages
    method = dataclasses.replace(named, name="mine", stages=(*coarse, dataclasses.replace(finest, similarity=PatchNCC())))
    xray = fr.read_xray(xray_path, fr.read_camera(camera_path))
    result = fr.Registrar(fr.read_ct(ct_path), method=method, seed=1).register(xray, fr.read_pose(initial_path))
    print(result.method, result.accepted, result.reason)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
