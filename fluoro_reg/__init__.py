"""2-D/3-D registration of C-arm fluoroscopy to CT: the pose of a patient in each X-ray image, checked before it is published.

Importing the package needs neither ROS nor CUDA; only `fluoro_reg.ros` imports ROS. The conventions of frames, units and
transforms stand in `fluoro_reg.geometry`.
"""

__version__ = "0.1.0"
