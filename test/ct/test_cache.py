"""The cache of CTs: what it returns is what was read, it notices every change, and nobody else can read it."""

import os
import shutil
import stat
from dataclasses import fields

import nibabel
import numpy as np
import pytest
import torch

from fluoro_reg.ct import cache
from fluoro_reg.ct.cache import VARIABLE, cache_folder, read_ct_cached
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """The folder of the cache, which is empty at first."""
    folder = tmp_path / "cache" / "ct"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def ct_folder(phantom_folder, tmp_path):
    return shutil.copytree(phantom_folder, tmp_path / "Doe^Jane" / "ct")


@pytest.fixture
def reads(monkeypatch):
    """How often a CT has been read from its files."""
    count = []

    def counted(path, series=None):
        count.append(path)
        return read_ct(path, series)

    monkeypatch.setattr(cache, "read_ct", counted)
    return count


def assert_equal(volume, other):
    for field in fields(volume):
        one, two = getattr(volume, field.name), getattr(other, field.name)
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two, field.name


def test_a_ct_is_read_once_and_is_the_same_afterwards(entries, ct_folder, reads):
    assert_equal(read_ct_cached(ct_folder), read_ct(ct_folder))
    assert_equal(read_ct_cached(ct_folder), read_ct(ct_folder))
    assert len(reads) == 1
    shutil.move(ct_folder, ct_folder.parent / "moved")
    read_ct_cached(ct_folder.parent / "moved")
    assert len(reads) == 1, "the place of the folder does not matter"


def test_every_change_of_the_files_is_noticed(entries, ct_folder, reads):
    read_ct_cached(ct_folder)
    first = min(ct_folder.iterdir())
    content, times = bytearray(first.read_bytes()), first.stat()
    content[-1] ^= 1
    first.write_bytes(content)
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time
    read_ct_cached(ct_folder)
    first.rename(first.with_name("zzz.dcm"))
    read_ct_cached(ct_folder)
    with pytest.raises(InputError, match="series"):
        read_ct_cached(ct_folder, "7")
    assert len(reads) == 4


def test_a_change_of_the_reader_is_noticed(entries, ct_folder, reads, monkeypatch):
    read_ct_cached(ct_folder)
    monkeypatch.setattr(cache, "_digest_of_readers", lambda: b"another")
    read_ct_cached(ct_folder)
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["a bit of a voxel", "a bit of the header", "half", "empty"])
def test_a_damaged_entry_is_ignored_and_replaced(entries, ct_folder, reads, damage):
    read_ct_cached(ct_folder)
    (entry,) = entries.iterdir()
    content = bytearray(entry.read_bytes())
    if damage.startswith("a bit"):
        content[-1 if "voxel" in damage else 80] ^= 1
    entry.write_bytes(content[: {"half": len(content) // 2, "empty": 0}.get(damage, len(content))])
    for _ in range(2):
        assert_equal(read_ct_cached(ct_folder), read_ct(ct_folder))
    assert len(reads) == 2


def test_entries_are_for_the_user_alone_and_name_nobody(entries, ct_folder):
    read_ct_cached(ct_folder)
    (entry,) = entries.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600 and stat.S_IMODE(entries.stat().st_mode) == 0o700
    header = entry.read_bytes()[:4096]
    assert b"Doe" not in header and "Doe" not in entry.name
    assert not any(file.name.encode() in header for file in ct_folder.iterdir())


def test_a_folder_that_others_can_write_is_not_used(entries, ct_folder, reads):
    read_ct_cached(ct_folder)
    entries.chmod(0o777)
    read_ct_cached(ct_folder)
    assert len(reads) == 2


def test_the_cache_is_bounded_and_what_was_used_last_stays(entries, ct_folder, reads, monkeypatch):
    read_ct_cached(ct_folder)
    (first,) = entries.iterdir()
    size = first.stat().st_size
    monkeypatch.setattr(cache, "MAXIMUM_BYTES", 2 * size + 1000)
    for name in ("b", "c"):
        volume = read_ct(ct_folder)
        os.utime(entries / first.name, (1, 1)) if name == "b" else None
        cache.store(entries / f"{name}.ct", volume)
    assert {entry.name for entry in entries.iterdir()} == {"b.ct", "c.ct"}
    monkeypatch.setattr(cache, "MAXIMUM_BYTES", 1000)
    cache.store(entries / "d.ct", volume)
    assert not (entries / "d.ct").exists(), "a CT that is larger than the cache is not kept"


def test_a_full_disk_does_not_matter(entries, ct_folder, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Path, "replace", full)
    assert_equal(read_ct_cached(ct_folder), read_ct(ct_folder))
    assert list(entries.iterdir()) == [], "nothing half-written stays"


def test_the_cache_can_be_off_and_is_otherwise_in_the_cache_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "off")
    assert cache_folder() is None
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fluoro_reg" / "ct"


def test_formats_that_may_refer_to_other_files_are_not_kept(entries, tmp_path, reads):
    header = tmp_path / "ct.mhd"
    header.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementSpacing = 2 2 2\nOffset = 0 0 0\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = ct.raw\n"
    )
    values = np.full(64, -1000, np.int16)
    values[20] = 700
    values.tofile(tmp_path / "ct.raw")
    read_ct_cached(header)
    assert len(reads) == 1 and not entries.exists()


def test_a_warning_that_names_a_file_is_not_kept(entries, tmp_path, reads):
    values = np.full((6, 6, 6), -1000, np.int16)
    values[2:4, 2:4, 2:4] = 700
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "right.nii")
    read_ct_cached(tmp_path / "right.nii")
    assert len(list(entries.iterdir())) == 1
    shutil.copy(tmp_path / "right.nii", tmp_path / "doe.nii.gz")  # its name says compressed
    volume = read_ct_cached(tmp_path / "doe.nii.gz")
    assert any("doe.nii.gz" in sentence for sentence in volume.warnings)
    assert len(list(entries.iterdir())) == 1
