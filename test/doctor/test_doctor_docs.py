"""The documentation of the doctor: its table of C-arm items is the program's, and the bug report asks for the report."""

import re

import yaml
from helpers.documentation import DOCS, ROOT

from fluoro_reg.doctor.pixels import PICTURE_PX
from fluoro_reg.xray.dicom.carm_items import CARM_ITEMS

PAGE = (DOCS / "how-to" / "doctor.md").read_text(encoding="utf-8")


def test_the_table_lists_every_item_with_its_use():
    rows = re.findall(r"^\| ([A-Z]\w+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    expected = []
    for item in CARM_ITEMS:
        unit = f", {item.unit}" if item.unit else ""
        expected.append((item.keyword, f"{item.gives}{unit}", item.use if item.used else f"not used: {item.use}"))
    assert rows == expected


def test_the_page_states_the_size_of_the_pictures():
    assert f"averaged to at most {PICTURE_PX} pixels" in PAGE


def test_the_bug_report_asks_for_the_doctors_report():
    template = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8"))
    (field,) = [part for part in template["body"] if part.get("id") == "doctor"]
    assert "fluoro-reg doctor" in field["attributes"]["description"] and field["validations"]["required"]
