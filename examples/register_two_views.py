"""Register two X-rays with known relative geometry jointly, which determines depth much better than one view.

python examples/register_two_views.py ct_folder ap.png camera.json lateral_view.json initial.json
"""

import sys

import fluoro_reg as fr
from fluoro_reg.formats.views import read_view


def main(ct_path: str, xray_path: str, camera_path: str, view_path: str, initial_path: str) -> fr.RegistrationResult:
    first = fr.CalibratedXray(fr.read_xray(xray_path, fr.read_camera(camera_path)), fr.RigidTransform.identity())
    registrar = fr.Registrar(fr.read_ct(ct_path))
    result = registrar.register_views([first, read_view(view_path)], fr.read_pose(initial_path))
    print(result.accepted, result.reason, result.camera_from_patient)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
