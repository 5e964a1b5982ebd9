"""The page on data sets: its programs run, on small files of the same names."""

import re
from pathlib import Path

import pytest

pytest.importorskip("h5py", reason="needs the extra 'datasets'")
from dataset_files import write_deepfluoro, write_ljubljana

from fluoro_reg.evaluation.cases import find_cases, read_case

PAGE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"


def test_programs_on_the_page_export_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_deepfluoro(Path("ipcai_2020_full_res_data.h5"))
    write_ljubljana(Path("ljubljana.h5"), left_handed=False)
    programs = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for program in programs:
        exec(program, {})
    names = [read_case(case).name for folder in ("one_specimen", "ljubljana_cases") for case in find_cases(folder)]
    assert len(programs) == 2
    assert names == ["17-1882_000", "17-1882_002", "subject01_ap", "subject01_lat"]
