"""One JSON object and one Markdown page from the parts of `scripts/gpu.sh` that have run so far.

    python benchmarks/gpu_page.py PARTS OUT

PARTS holds three files for each part: NAME.out (what it printed), NAME.err (the end of its log) and NAME.json (title, exit
status, seconds, limit). The script calls this after every part, so that a run that is cut off has lost nothing.
"""

import json
import sys
from pathlib import Path
from typing import Any

LAST_LINES = 25
STATUS = {0: "done", 3: "left out, no time", 124: "ran out of its time", 137: "ran out of its time"}


def read_part(file: Path) -> dict[str, Any]:
    """Return what is known of a part; `result` is its JSON, or its text."""
    part = json.loads(file.read_text())
    text, log = (file.with_suffix(suffix).read_text(errors="replace") for suffix in (".out", ".err"))
    try:
        part["result"] = json.loads(text)
    except json.JSONDecodeError:
        part["result"] = text
    part["log"] = log.splitlines()[-LAST_LINES:]
    return part


def page(parts: list[dict[str, Any]]) -> str:
    rows = [f"| {part['title']} | {describe(part)} | {part['seconds']} | {part['limit']} |" for part in parts]
    lines = ["# Everything that needs a GPU", "", "| part | | seconds | limit |", "|---|---|--:|--:|", *rows, ""]
    for part in parts:
        lines += [f"## {part['title']}", ""]
        result = part["result"]
        text = result if isinstance(result, str) else json.dumps(result, indent=1)
        lines += [text.rstrip(), ""] if isinstance(result, str) and "|" in result else ["```", text.rstrip(), "```", ""]
        if part["status"] not in (0, 3):
            lines += ["The end of its log:", "", "```", *part["log"], "```", ""]
    return "\n".join(lines)


def describe(part: dict[str, Any]) -> str:
    return STATUS.get(part["status"], f"failed with status {part['status']}")


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    parts = [read_part(file) for file in sorted(folder.glob("*.json"))]
    (out / "gpu.json").write_text(json.dumps({"parts": parts}, indent=1) + "\n")
    (out / "gpu.md").write_text(page(parts))


if __name__ == "__main__":
    main()
