"""Register one X-ray to a CT.

python examples/register_xray.py ct_folder xray.png camera.json initial.json
"""

import sys

import fluoro_reg as fr


def main(ct_path: str, xray_path: str, camera_path: str, initial_path: str) -> fr.RegistrationResult:
    ct = fr.read_ct(ct_path)
    xray = fr.read_xray(xray_path, fr.read_camera(camera_path))
    result = fr.Registrar(ct).register(xray, fr.read_pose(initial_path))
    print(result.accepted, result.reason, result.camera_from_patient)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
