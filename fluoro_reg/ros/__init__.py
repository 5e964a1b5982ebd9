"""The ROS 2 node and its helpers: the only place that imports rclpy and message packages.

Messages become the core's types in `conversions` and leave as messages there; metres and quaternions are known nowhere else.
The rest is plumbing around `Tracker.update`: pairing, one worker, parameters from the core's own options, reports.
"""

from fluoro_reg.waiting import wait_without_spinning

wait_without_spinning()
