"""`CTVolume` and its parts."""

import torch

from fluoro_reg.ct.volume import CTVolume


def test_the_labels_of_a_volume_add_up_to_it():
    labels = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(0))
    volume = CTVolume(torch.rand(4, 5, 6), torch.eye(4, dtype=torch.float64), fingerprint="kept")
    parts = [volume.only(labels == n) for n in range(3)]
    torch.testing.assert_close(sum(part.attenuation for part in parts), volume.attenuation)
    assert all(part.attenuation[labels != n].abs().max() == 0 for n, part in enumerate(parts))
    assert parts[0].fingerprint == "kept"
