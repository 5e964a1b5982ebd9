"""Matrices that are rejected as poses, and rounded rotations."""

import pytest
import torch

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform


def _changed_identity(row: int, column: int, value: float) -> list[list[float]]:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[row, column] = value
    return matrix.tolist()


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ([[1, 2], [3, 4]], "4 x 4"),
        ("identity", "4 x 4 matrix of numbers"),
        ([[1, 0, 0], [0, 1]], "4 x 4 matrix of numbers"),
        (_changed_identity(0, 3, float("nan")), "NaN"),
        (_changed_identity(0, 0, -1.0), "reflection"),
        (_changed_identity(0, 0, 1.1), "not rigid"),
        (_changed_identity(3, 0, 5.0), "last row"),
    ],
)
def test_a_matrix_that_is_not_a_pose_is_rejected(matrix, sentence):
    with pytest.raises(InputError, match=sentence):
        RigidTransform.from_matrix(matrix)


def test_a_rounded_rotation_is_projected_to_a_rotation():
    rounded = [[0.8660, -0.5, 0, 1], [0.5, 0.8660, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    rotation = RigidTransform.from_matrix(rounded).rotation
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-14, rtol=0)
