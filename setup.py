"""The ament_python package: `colcon build` where ROS 2 is installed, `pip install` where it is not."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "fluoro_reg"
HERE = Path(__file__).resolve().parent  # colcon --symlink-install runs a link to this file, in its own build folder
VERSION = {}
exec((HERE / PACKAGE / "__init__.py").read_text(encoding="utf-8"), VERSION)


def files(*patterns: str) -> list[str]:
    """Files that match one of the patterns."""
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern) if path.is_file())


setup(
    name=PACKAGE,
    version=VERSION["__version__"],
    description="2-D/3-D registration of C-arm fluoroscopy to CT, as a ROS 2 node and a command line",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="fluoro_reg maintainers",
    maintainer="fluoro_reg maintainers",
    maintainer_email="maintainers@fluoro-reg.example.org",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "*/templates/*", "*/*/templates/*"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "numpy>=1.26",
        "numba>=0.60",
        "scipy>=1.11",
        "cma>=4",
        "nlopt>=2.7",
        "pydicom>=3.0.2",
        "transforms3d>=0.4.2",
        "PyYAML>=6",
        "jaxtyping>=0.2.34",
        "rich>=13",
        "typer>=0.21",
        "rosbags>=0.11",
        "backports.zstd>=1; python_version < '3.14'",
        "safetensors>=0.4",
        "Pillow>=10",
        "matplotlib>=3.8",
    ],
    extras_require={
        "training": ["monai>=1.5"],
        "opencv": ["opencv-python-headless>=4.8"],
        "formats": ["nibabel>=5", "SimpleITK>=2.3", "highdicom>=0.26"],
        "decoders": ["pylibjpeg>=2", "pylibjpeg-openjpeg>=2", "pyjpegls>=1.4"],
        "datasets": ["h5py>=3.8", "nibabel>=5"],
        "ray": ["ray>=2.9"],
        "test": ["pytest>=8", "pytest-xdist>=3.5", "beartype>=0.18", "hypothesis>=6", "pyigtl>=0.3"],
        "interpreter": ["triton>=3.3; platform_system == 'Linux' and platform_machine == 'x86_64'"],
        "docs": ["zensical>=0.0.73,<0.1", "mkdocstrings-python>=2"],
        "dev": ["ruff", "mypy", "types-PyYAML", "typos", "pre-commit"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", files("launch/*.py")),
        (f"share/{PACKAGE}/config", files("config/*")),
        (f"share/{PACKAGE}/config/methods", files("config/methods/*.yaml")),
        (f"share/{PACKAGE}/config/views", files("config/views/*.yaml")),
        (f"share/{PACKAGE}/config/security", files("config/security/*.xml")),
        (f"share/{PACKAGE}/models", files("models/*.safetensors")),
        (f"share/{PACKAGE}/embedded_ros", ["embedded_ros/fastdds_loopback.xml"]),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "fluoro-reg = fluoro_reg.cli.main:run",
            "registration_node = fluoro_reg.ros.programs:registration_node",
            "bag_player = fluoro_reg.ros.programs:bag_player",
            "tf_listener = fluoro_reg.ros.programs:tf_listener",
        ],
    },
)
