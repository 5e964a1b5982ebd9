"""The ROS 2 node and its tools; the only package that imports rclpy and message packages.

`conversions` translates between ROS messages and the types of the core; metres and quaternions appear nowhere else. The other
modules connect `Tracker.update` to ROS: pairing, one worker thread, parameters derived from the options, diagnostics.
"""

from fluoro_reg.waiting import use_passive_waiting

use_passive_waiting()
