"""DiffDRR 0.6.1 with this project's CT and camera: its trilinear renderer, and Siddon's with the nearest voxel.

Its world is the patient, and its poses map the camera to the world. The rows and columns of its detector run opposite to ours,
which is a rotation of 180 degrees about the optical axis that goes into `reorient`. The density is given as attenuation, which
bypasses its scaling of Hounsfield units. A voxel's index is at its centre, as in this project.
"""

import torch
from diffdrr.drr import DRR
from diffdrr.pose import RigidTransform as DiffdrrPose
from jaxtyping import Float
from torch import Tensor
from torchio import ScalarImage, Subject

from fluoro_reg.geometry import RigidTransform
from render_bench.contenders import Contender
from render_bench.sampling import samples_for_step
from render_bench.scene import SOURCE_TO_DETECTOR_MM, Scene

_ROTATION_180_DEG = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))


class _Diffdrr(Contender):
    """The common part of both renderers."""

    renderer: str

    def __init__(self, scene: Scene, device: str, step_voxels: float) -> None:
        super().__init__(scene, device)
        voxels = scene.volume.attenuation.permute(2, 1, 0)[None].contiguous()  # [1, i, j, k]
        image = ScalarImage(tensor=voxels, affine=scene.volume.patient_from_voxel.numpy())
        subject = Subject(volume=image, density=image, mask=None, fiducials=None, reorient=_ROTATION_180_DEG)
        camera = scene.camera
        pixel_mm = SOURCE_TO_DETECTOR_MM / camera.fx, SOURCE_TO_DETECTOR_MM / camera.fy
        self._drr = DRR(
            subject,
            sdd=SOURCE_TO_DETECTOR_MM,
            height=camera.height,
            width=camera.width,
            delx=pixel_mm[0],
            dely=pixel_mm[1],
            x0=(camera.cx - (camera.width - 1) / 2) * pixel_mm[0],
            y0=(camera.cy - (camera.height - 1) / 2) * pixel_mm[1],
            renderer=self.renderer,
        ).to(device)
        self._settings = self.settings(step_voxels)

    def settings(self, step_voxels: float) -> dict[str, int]:
        """Return the arguments of a rendering."""
        return {}

    def images(self, camera_from_patient: RigidTransform) -> Float[Tensor, "batch height width"]:
        patient_from_camera = camera_from_patient.inverse().matrix().to(self.device, torch.float32)
        return self._drr(DiffdrrPose(patient_from_camera), **self._settings)[:, 0]


class DiffdrrTrilinear(_Diffdrr):
    """Samples from the first ray's entry into the grid to the last ray's exit."""

    renderer = "trilinear"

    def settings(self, step_voxels: float) -> dict[str, int]:
        return {"n_points": samples_for_step(self.scene, step_voxels, common_range=True)}


class DiffdrrSiddon(_Diffdrr):
    """Exact integrals of voxels of constant attenuation, without a step size."""

    renderer = "siddon"
