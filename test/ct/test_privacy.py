"""The reader reveals nothing that identifies a patient and raises nothing but InputError, however damaged the file is."""

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


def all_output(folder: Path, capfd, caplog, recwarn) -> str:
    """Return all output of reading: the summary or the error with its traceback, streams, log messages and warnings."""
    try:
        output = json.dumps(summarise(read_ct(folder)))
    except InputError as error:
        output = "".join(traceback.format_exception_only(error)) + str(error.__cause__ or "")
    streams = capfd.readouterr()
    return output + streams.out + streams.err + caplog.text + "".join(str(warning.message) for warning in recwarn)


DAMAGES = {  # tag and VR of an element in the file; the first bytes of its value become a name
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


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_output_identifies_a_patient(writer, body, capfd, caplog, recwarn, damage):
    element = DAMAGES[damage]
    for file in writer.write(body, POSITIONS, slice_fields=lambda k: {**SECRETS, "SpecificCharacterSet": "ISO_IR 100"}):
        content = bytearray(file.read_bytes())
        position = content.index(element) + len(element) + 2
        content[position : position + 2 * bool(element)] = b"Zy" * bool(element)
        file.write_bytes(content)
    output = all_output(writer.folder, capfd, caplog, recwarn)
    assert output
    assert "Zy" not in output
    assert not [secret for secret in secret_values(writer.folder) if secret in output]


def test_the_list_of_series_identifies_no_patient(writer, new_writer, body, capfd, caplog, recwarn):
    writer.write(body, POSITIONS, slice_fields=lambda k: SECRETS)
    new_writer().write(body, POSITIONS, name=lambda k: f"Zyxwold{k}.dcm", slice_fields=lambda k: SECRETS)
    output = all_output(writer.folder, capfd, caplog, recwarn)
    assert "there are 2 CT series" in output
    assert not [secret for secret in secret_values(writer.folder) if secret in output]


def test_an_unknown_transfer_syntax_is_not_repeated(writer, body):
    private = generate_uid()
    for file in writer.write(body, POSITIONS):
        dataset = dcmread(file)
        content = file.read_bytes().replace(str(dataset.file_meta.TransferSyntaxUID).encode() + b"\0", private[:20].encode(), 1)
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_ct(writer.folder)
    assert private[:20] not in str(caught.value)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("seed", range(8))
def test_mutated_files_give_a_volume_or_an_input_error(writer, seed):
    """Random bytes of a header are changed, removed or duplicated: no other exception, and no NaN in the volume."""
    rng = random.Random(seed)
    hu = np.random.default_rng(seed).uniform(-1000, 1500, (4, 6, 6))
    files = writer.write(hu, POSITIONS[:4], slice_fields=lambda k: {"PixelPaddingValue": 0, "GantryDetectorTilt": 0})
    originals = [file.read_bytes() for file in files]
    outcomes = {"read": 0, "rejected": 0}
    for _ in range(60):
        index = rng.randrange(4)
        content = bytearray(originals[index])
        for _ in range(rng.choice([1, 1, 3, 20])):
            position = rng.randrange(128, len(content))
            kind = rng.random()
            if kind < 0.6:
                content[position] = rng.randrange(256)
            elif kind < 0.8:
                del content[position : position + rng.randrange(1, 60)]
            else:
                content[position:position] = content[position : position + rng.randrange(1, 60)]
        files[index].write_bytes(content)
        try:
            volume = read_ct(writer.folder)
            assert volume.attenuation.isfinite().all()
            assert volume.patient_from_voxel.isfinite().all()
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["rejected"] += 1
        files[index].write_bytes(originals[index])
    assert min(outcomes.values()) > 5
