"""nanodrr 0.1.7 with this project's CT and camera: trilinear samples, the same number on each ray's chord through the grid.

Its world is the patient and its `rt_inv` is `patient_from_camera`. Its pixel (0, 0) covers 0 to 1, so a principal point in
pixel centres is half a pixel larger. On CUDA it uses its own Triton kernel, elsewhere torch's grid_sample.
"""

import torch
from jaxtyping import Float
from nanodrr.data import Subject
from nanodrr.drr import DRR
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from render_bench.contenders import Contender
from render_bench.sampling import samples_for_step
from render_bench.scene import SOURCE_TO_DETECTOR_MM, Scene


class Nanodrr(Contender):
    """nanodrr with its default backend for the device."""

    def __init__(self, scene: Scene, device: str, step_voxels: float) -> None:
        super().__init__(scene, device)
        voxels = scene.volume.attenuation[None, None].contiguous()
        world_from_voxel = scene.volume.patient_from_voxel
        self._subject = Subject(
            imagedata=voxels,
            labeldata=torch.zeros_like(voxels),
            voxel_to_world=world_from_voxel.float(),
            world_to_voxel=world_from_voxel.inverse().float(),
            voxel_to_grid=Subject._make_voxel_to_grid(voxels.shape),
            isocenter=scene.volume.centre_patient.float(),
            max_label=0,
            convert_to_mu=False,
        ).to(device)
        camera = scene.camera
        pixel_mm = SOURCE_TO_DETECTOR_MM / camera.fx, SOURCE_TO_DETECTOR_MM / camera.fy
        offset = camera.cx + 0.5 - camera.width / 2, camera.cy + 0.5 - camera.height / 2
        self._drr = DRR.from_carm_intrinsics(
            SOURCE_TO_DETECTOR_MM,
            *pixel_mm,
            *(offset_px * mm for offset_px, mm in zip(offset, pixel_mm, strict=True)),
            camera.height,
            camera.width,
            dtype=torch.float32,
            device=torch.device(device),
        )
        self._samples = samples_for_step(scene, step_voxels, common_range=False)

    def images(self, camera_from_patient: RigidTransform) -> Float[Tensor, "batch height width"]:
        patient_from_camera = camera_from_patient.inverse().matrix().to(self.device, torch.float32)
        return self._drr(self._subject, patient_from_camera, n_samples=self._samples)[:, 0]
