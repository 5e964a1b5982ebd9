"""No report names anybody: identifying strings in headers, private tags, overlays and file names are nowhere in the output."""

from pathlib import Path

import numpy as np
import pytest
from helpers.xray_images import write_xa
from pydicom import dcmread

from fluoro_reg.cli.main import main
from fluoro_reg.doctor.anonymous import without_names
from fluoro_reg.formats.bags import FIRST_STAMP_NS, BagFrame, write_bag
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series

ELEMENTS = {
    "PatientName": "Zyxwold^Quentin",
    "PatientID": "PID-778899",
    "PatientBirthDate": "19330201",
    "OtherPatientIDs": "OTHER-112233",
    "PatientAddress": "7 Obscure Lane",
    "PatientTelephoneNumbers": "+49-555-0199",
    "AccessionNumber": "ACC-445566",
    "StudyID": "STUDY-9911",
    "InstitutionName": "Saint Obscurus",
    "InstitutionAddress": "1 Hidden Road",
    "ReferringPhysicianName": "Umbrageous^Xe",
    "OperatorsName": "Tenebrous^Yo",
    "StationName": "STATION-KX7",
    "DeviceSerialNumber": "SERIAL-60601",
    "StudyDescription": "Zyxwold hip",
    "SeriesDescription": "for Dr Umbrageous",
    "ProtocolName": "Quentins protocol",
    "StudyDate": "20010911",
    "SeriesDate": "20010912",
    "AcquisitionTime": "101112",
    "ImageComments": "Quentin moved",
    "PatientComments": "allergic Zyxwold",
    "RequestedProcedureDescription": "Procedure of Zyxwold",
    "DerivationDescription": "Derived by Tenebrous",
    "LossyImageCompressionMethod": "QUENTINMETHOD",
    "PositionerType": "ZYXWOLDARM",
    "ViewPosition": "QUENTINVIEW",
    "PixelIntensityRelationship": "ZYX",
}
PRIVATE, OVERLAY, FOLDER, FILE = "Zyxwold private", "Overlay of Umbrageous", "folder_of_miller", "Miller_Anna_1950"


@pytest.fixture
def inputs(tmp_path: Path, xray_pixels: np.ndarray) -> list[Path]:
    """A CT, X-rays, a bag and damaged files in folders and under names that identify somebody."""
    home = tmp_path / FOLDER
    home.mkdir()
    hu = np.full((6, 40, 40), -1000.0, np.float32)
    hu[:, 8:32, 8:32] = 60.0
    hu[2:4, 15:25, 15:25] = 900.0
    write_dicom_series(home / f"ct_{FILE}", hu, np.diag([2.0, 2.0, 3.0, 1.0]))
    for number, file in enumerate(sorted((home / f"ct_{FILE}").iterdir())):
        plant(file, "CT")
        file.rename(file.with_name(f"{FILE}_{number}.dcm"))
    geometry = {"DistanceSourceToDetector": 1000.0, "ImagerPixelSpacing": [0.4, 0.5]}
    plant(write_xa(home / f"{FILE}.dcm", xray_pixels, **geometry), "XA")
    plant(write_xa(home / f"{FILE}_no_camera.dcm", xray_pixels), "XA")
    plant(write_xa(home / f"{FILE}_other.dcm", xray_pixels), "QUENTIN")
    np.save(home / f"{FILE}.npy", xray_pixels)
    (home / f"{FILE}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"Zyxwold" * 20)
    (home / f"{FILE}.mha").write_bytes(b"Comment = Zyxwold")
    (home / f"{FILE}.nrrd").write_bytes(b"NRRD0004\ntype: short\nspace: Zyxwold\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\n")
    mha = (
        b"ObjectType = Image\nNDims = 3\nElementType = MET_SHORT\nElementSpacing = 1 1 1\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    )
    (home / f"{FILE}_unit.mha").write_bytes(mha + b"DistanceUnits = Quentin\nElementDataFile = LOCAL\n")
    (home / f"{FILE}_twice.mhd").write_bytes(mha + b"Anna = Zyxwold\nAnna = Quentin\nElementDataFile = Miller.raw\n")
    (home / f"{FILE}.txt").write_text("Zyxwold")
    camera = CameraIntrinsics(256, 256, 900.0, 900.0, 127.5, 127.5)
    write_bag(home / f"bag_{FILE}", [BagFrame(FIRST_STAMP_NS, xray_pixels, camera)])
    (home / f"broken_{FILE}.mcap").write_bytes(b"Zyxwold")
    return [*sorted(home.iterdir()), home / f"missing_{FILE}.dcm"]


def plant(file: Path, modality: str) -> None:
    dataset = dcmread(file)
    for keyword, text in ELEMENTS.items():
        setattr(dataset, keyword, text)
    dataset.Modality = modality
    block = dataset.private_block(0x0011, "Zyxwold creator", create=True)
    block.add_new(0x01, "LO", PRIVATE)
    dataset.add_new(0x60000022, "LO", OVERLAY)
    dataset.add_new(0x60001500, "LO", f"{OVERLAY}, label")
    dataset.save_as(file)


def planted(inputs: list[Path]) -> set[str]:
    """All strings that must not appear, whole and in their parts."""
    whole = {*ELEMENTS.values(), PRIVATE, OVERLAY, FOLDER, FILE, "Zyxwold creator"}
    parts = {"Zyxwold", "Quentin", "Umbrageous", "Tenebrous", "Obscure", "Obscurus", "Miller", "miller", "Anna"}
    uids = {str(dcmread(inputs[0].parent / f"{FILE}.dcm").SOPInstanceUID)}
    uids |= {
        str(getattr(dcmread(next((inputs[0].parent / f"ct_{FILE}").iterdir())), f"{kind}InstanceUID"))
        for kind in ("Series", "Study")
    }
    return whole | parts | uids


def test_nothing_identifies_anybody(inputs, tmp_path, capfd, caplog, recwarn):
    report = tmp_path / "report.html"
    texts = []
    for arguments in ([], ["--json"]):
        status = main(["doctor", *(str(path) for path in inputs), "--out", str(report), *arguments])
        assert status == 1  # some inputs are damaged
        streams = capfd.readouterr()
        texts += [streams.out, streams.err]
    page = report.read_text()
    everything = "".join([*texts, page, caplog.text, *(str(warning.message) for warning in recwarn)])
    secrets = planted(inputs)
    assert len(secrets) >= 30
    assert [secret for secret in sorted(secrets) if secret.lower() in everything.lower()] == []
    assert page.count("<h2>Input") == len(inputs)
    assert "refused" in page and "ready" in page and "incomplete" in page


def test_a_folder_of_everything_identifies_nobody(inputs, tmp_path, capfd):
    main(["doctor", str(inputs[0].parent), "--json", "--out", str(tmp_path / "report.html")])
    streams = capfd.readouterr()
    everything = (streams.out + streams.err + (tmp_path / "report.html").read_text()).lower()
    assert len(streams.out) > 1000
    assert [secret for secret in sorted(planted(inputs)) if secret.lower() in everything] == []


def test_whole_names_are_replaced_in_sentences():
    names = ["/data/anna/x.dcm", "x.dcm", "ct"]
    assert (
        without_names("x.dcm is damaged, as is '/data/anna/x.dcm'", names, "the input")
        == "the input is damaged, as is the input"
    )
    assert without_names("the act of 'ct' in CT", names, "the input") == "the act of the input in CT"
