"""The X-ray without other bodies: its gain, and the images that are taken out of it."""

import numpy as np
import pytest
import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.kernels import robust_gain
from fluoro_reg.registration.bodies.scene import SeenView, without_others
from fluoro_reg.rendering.bodies import RenderedBody
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess


def test_the_gain_is_that_of_most_pixels():
    generator = np.random.default_rng(3)
    moving = generator.normal(size=(2, 40, 50)).astype(np.float32)
    fixed, weight = np.float32(0.7) * moving, np.ones((40, 50), np.float32)
    fixed += 0.05 * generator.normal(size=fixed.shape).astype(np.float32)
    fixed[:, :4] = 9.0 * moving[:, :4]  # an edge that the bodies do not explain
    plain = float((moving * fixed).sum() / np.square(moving).sum())
    assert plain > 1.3
    assert robust_gain(fixed, moving, weight, 1, 4.0) == pytest.approx(plain, rel=1e-4)
    assert robust_gain(fixed, moving, weight, 12, 4.0) == pytest.approx(0.7, abs=0.1)
    weight[:4] = 0.0
    assert robust_gain(fixed, moving, weight, 4, 4.0) == pytest.approx(0.7, abs=0.01)


def test_without_pixels_or_bodies_there_is_no_gain():
    nothing, something = np.zeros((2, 8, 9), np.float32), np.ones((2, 8, 9), np.float32)
    assert robust_gain(something, nothing, np.ones((8, 9), np.float32), 4, 4.0) == 0.0
    assert robust_gain(something, something, np.zeros((8, 9), np.float32), 4, 4.0) == 0.0


def test_a_body_that_stays_is_rendered_once_for_all_others(patient, registrar, monkeypatch):
    view = patient.view()
    seen = SeenView(preprocess(patient.xray(view, {}), PreprocessOptions()), RigidTransform.identity())
    rendered, render = [], RenderedBody.integrals
    monkeypatch.setattr(RenderedBody, "integrals", lambda self, *at: rendered.append(self) or render(self, *at))
    poses = {body.name: view for body in registrar.bodies}
    alone = {body.name: without_others(seen, registrar.bodies, poses, body).image.pixels for body in registrar.bodies}
    assert len(rendered) == len(registrar.bodies)
    away = RigidTransform(view.rotation, view.translation + torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64))
    moved = without_others(seen, registrar.bodies, {**poses, "L5": away}, registrar.bodies[0]).image.pixels
    assert len(rendered) == len(registrar.bodies) + 1
    assert not torch.allclose(moved, alone["pelvis"], atol=1e-3)
