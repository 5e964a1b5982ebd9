"""The demo: a phantom, a recording of it, the node as a process of its own, and a report."""
