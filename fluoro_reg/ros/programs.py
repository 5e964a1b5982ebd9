"""The entry points of the ROS programs.

Importing torch and ROS takes seconds. Until the program handles signals itself, Ctrl-C ends it without a traceback.
"""

import importlib
import signal


def registration_node() -> int:
    """Run `registration_node`."""
    return _run("node")


def bag_player() -> int:
    """Run `bag_player`."""
    return _run("player")


def tf_listener() -> int:
    """Run `tf_listener`."""
    return _run("tf_listener")


def _run(name: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    module = importlib.import_module(f"fluoro_reg.ros.{name}")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return module.main()
