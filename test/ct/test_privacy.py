"""No value that could identify a person leaves the reader, however broken the file; and no exception but InputError."""

import json
import random
import traceback
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from fluoro_reg.ct.dicom.files import silent_pydicom
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.summary import summarise
from fluoro_reg.errors import InputError

SECRETS = {
    "PatientName": "Zyxwold^Quentin",
    "PatientID": "PID-778899",
    "PatientBirthDate": "19330201",
    "AccessionNumber": "ACC-445566",
    "InstitutionName": "Saint Obscurus",
    "StudyDescription": "Zyxwold pelvis",
    "SeriesDescription": "for Dr Umbrageous",
    "ProtocolName": "Umbrageous protocol",
    "StudyDate": "20010911",
    "OperatorsName": "Umbrageous^Xe",
    "ConvolutionKernel": "Zyxwold",
}
POSITIONS = [[0, 0, float(k)] for k in range(6)]


def secret_values(folder: Path) -> list[str]:
    with silent_pydicom():
        dataset = dcmread(min(folder.rglob("*.dcm")))
    uids = [dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.SOPInstanceUID, dataset.StudyInstanceUID]
    return [
        "Zyxwold",
        "Quentin",
        "Obscurus",
        "Umbrageous",
        "778899",
        "445566",
        "19330201",
        "20010911",
        str(folder),
        *map(str, uids),
    ]


def spoken(folder: Path, capfd, caplog, recwarn) -> str:
    """Everything that reading says in any way: the summary or the refusal with its traceback, streams, logs, warnings."""
    try:
        said = json.dumps(summarise(read_ct(folder)))
    except InputError as error:
        said = "".join(traceback.format_exception_only(error)) + str(error.__cause__ or "")
    streams = capfd.readouterr()
    return said + streams.out + streams.err + caplog.text + "".join(str(warning.message) for warning in recwarn)


BREAKAGES = {  # an element's tag and VR as they stand in the file; its value's first bytes become a name
    "nothing": b"",
    "slope": b"\x28\x00\x53\x10DS",
    "position": b"\x20\x00\x32\x00DS",
    "orientation": b"\x20\x00\x37\x00DS",
    "spacing": b"\x28\x00\x30\x00DS",
    "frame of reference": b"\x20\x00\x52\x00UI",
    "modality": b"\x08\x00\x60\x00CS",
    "character set": b"\x08\x00\x05\x00CS",
    "class": b"\x08\x00\x16\x00UI",
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_nothing_that_is_said_names_a_person(writer, body, capfd, caplog, recwarn, breakage):
    element = BREAKAGES[breakage]
    for file in writer.write(body, POSITIONS, slice_fields=lambda k: {**SECRETS, "SpecificCharacterSet": "ISO_IR 100"}):
        content = bytearray(file.read_bytes())
        place = content.index(element) + len(element) + 2
        content[place : place + 2 * bool(element)] = b"Zy" * bool(element)
        file.write_bytes(content)
    said = spoken(writer.folder, capfd, caplog, recwarn)
    assert said
    assert "Zy" not in said
    assert not [secret for secret in secret_values(writer.folder) if secret in said]


def test_the_list_of_choices_names_nobody(writer, new_writer, body, capfd, caplog, recwarn):
    writer.write(body, POSITIONS, slice_fields=lambda k: SECRETS)
    new_writer().write(body, POSITIONS, name=lambda k: f"Zyxwold{k}.dcm", slice_fields=lambda k: SECRETS)
    said = spoken(writer.folder, capfd, caplog, recwarn)
    assert "there are 2 CT series" in said
    assert not [secret for secret in secret_values(writer.folder) if secret in said]


def test_an_unknown_transfer_syntax_is_not_repeated(writer, body):
    private = generate_uid()
    for file in writer.write(body, POSITIONS):
        dataset = dcmread(file)
        content = file.read_bytes().replace(str(dataset.file_meta.TransferSyntaxUID).encode() + b"\0", private[:20].encode(), 1)
        file.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_ct(writer.folder)
    assert private[:20] not in str(refusal.value)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("seed", range(8))
def test_mutated_files_give_a_volume_or_one_sentence(writer, seed):
    """Bytes of a header changed, cut out or doubled at random: never another exception, never a silent NaN."""
    dice = random.Random(seed)
    hu = np.random.default_rng(seed).uniform(-1000, 1500, (4, 6, 6))
    files = writer.write(hu, POSITIONS[:4], slice_fields=lambda k: {"PixelPaddingValue": 0, "GantryDetectorTilt": 0})
    originals = [file.read_bytes() for file in files]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(60):
        victim = dice.randrange(4)
        content = bytearray(originals[victim])
        for _ in range(dice.choice([1, 1, 3, 20])):
            place = dice.randrange(128, len(content))
            kind = dice.random()
            if kind < 0.6:
                content[place] = dice.randrange(256)
            elif kind < 0.8:
                del content[place : place + dice.randrange(1, 60)]
            else:
                content[place:place] = content[place : place + dice.randrange(1, 60)]
        files[victim].write_bytes(content)
        try:
            volume = read_ct(writer.folder)
            assert volume.attenuation.isfinite().all()
            assert volume.patient_from_voxel.isfinite().all()
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
        files[victim].write_bytes(originals[victim])
    assert min(outcomes.values()) > 5
