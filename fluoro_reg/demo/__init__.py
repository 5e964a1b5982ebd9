"""The demo: a phantom, a recording of it, the ROS node in a separate process, and a report."""
