"""Track the CT's pose through a rosbag2 or a DICOM cine, without ROS.

python examples/track_recording.py ct_folder recording/bag initial.json
"""

import sys

import fluoro_reg as fr
from fluoro_reg.formats.recordings import read_recording


def main(ct_path: str, recording_path: str, initial_path: str) -> int:
    tracker = fr.Tracker(fr.Registrar(fr.read_ct(ct_path)), fr.read_pose(initial_path))
    accepted = 0
    for frame in read_recording(recording_path):
        result = tracker.update(frame.xray())
        accepted += result.accepted
        print(f"frame {frame.number}: {'accepted' if result.accepted else 'rejected'}, {result.reason}")
    return accepted


if __name__ == "__main__":
    main(*sys.argv[1:])
