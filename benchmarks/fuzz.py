"""Coverage-guided fuzzing of every reader: whatever bytes they are given, they return or raise `InputError`, and nothing else.

    pip install atheris==3.0.0
    python benchmarks/fuzz.py OUT [--runs 1500] [--seed 1] [--only NAME ...] [--json]

Every kind of input (`fuzz_targets.py`) has a process of its own, which begins with valid files and keeps a change that reaches
new lines of this package or of pydicom. In JSON and YAML, whole values are exchanged, too. A finding is an exception of another
type, an input that takes longer than 20 s or needs more than 3 GB, or the death of the process. Its input is kept in OUT. The
exit status is 1 if there are findings.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAXIMUM_BYTES = 60_000
SECONDS, MEGABYTES = 20, 3000
VALUES = [None, True, "", "x", "nan", -1, 0, 1e308, float("nan"), float("inf"), 10**400, [], {}, [1], {"a": 1}, [[0.0] * 4] * 4]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the inputs of findings")
    parser.add_argument("--runs", type=int, default=1500, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="kinds of input; by default all")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each kind instead of a table")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.target:
        fuzz(options.target, options)
    from fuzz_targets import TARGETS

    rows = []
    for name in options.only or TARGETS:
        rows.append(run_target(name, options))
        print(json.dumps(rows[-1]) if options.json else f"{name}: {rows[-1]}", file=sys.stdout if options.json else sys.stderr)
    if not options.json:
        print("| input | runs | refused | lines reached | findings |\n|---|--:|--:|--:|---|")
        for row in rows:
            findings = "; ".join(row["findings"]) or "none"
            print(f"| {row['input']} | {row['runs']} | {row['refused']} | {row['coverage']} | {findings} |")
    return int(any(row["findings"] for row in rows))


def run_target(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one kind of input in a process of its own."""
    folder = options.out / re.sub(r"\W+", "_", name).strip("_")
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        __file__,
        str(folder),
        "--target",
        name,
        "--runs",
        str(options.runs),
        "--seed",
        str(options.seed),
    ]
    process = subprocess.run(command, capture_output=True, text=True, errors="replace")
    log = process.stdout + process.stderr
    (folder / "log.txt").write_text(log, encoding="utf-8")
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    findings = [f"{finding} ({count} times)" for finding, count in counts["findings"].items()]
    if process.returncode != 0:
        reason = re.search(r"ERROR: (.*)", log)
        findings.append(f"the process ended with status {process.returncode}: {reason[1] if reason else 'see log.txt'}")
    coverage = re.findall(r"\bcov: (\d+)", log)
    return {
        "input": name,
        "runs": counts["runs"],
        "refused": counts["refused"],
        "coverage": int(coverage[-1]) if coverage else 0,
        "findings": findings,
    }


def fuzz(name: str, options: argparse.Namespace) -> None:
    """Fuzz in this process, and end it."""
    import atheris

    with atheris.instrument_imports(include=["fluoro_reg", "pydicom"]):
        from fuzz_targets import TARGETS, describe

        from fluoro_reg.errors import InputError
    target, counts = TARGETS[name], {"runs": 0, "refused": 0, "findings": {}}
    corpus, work = (Path(tempfile.mkdtemp()) for _ in range(2))
    target.seeds(corpus)

    def run(data: bytes) -> None:
        counts["runs"] += 1
        path = work / f"input{target.suffix}"
        path.write_bytes(data)
        try:
            target.read(path)
        except InputError:
            counts["refused"] += 1
        except Exception as error:
            finding = " at ".join(describe(error).values())
            counts["findings"][finding] = counts["findings"].get(finding, 0) + 1
            (options.out / (re.sub(r"\W+", "_", finding) + target.suffix)).write_bytes(data)
        if counts["runs"] % 50 == 0 or counts["runs"] >= options.runs:
            (options.out / "counts.json").write_text(json.dumps(counts), encoding="utf-8")

    def mutate(data: bytes, maximum: int, seed: int) -> bytes:
        changed = with_another_value(data, target.suffix, random.Random(seed))
        return changed[:maximum] if changed is not None else atheris.Mutate(data, maximum)

    warnings.simplefilter("ignore")
    limits = [
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={MAXIMUM_BYTES}",
        f"-artifact_prefix={options.out}/",
    ]
    (options.out / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    atheris.Setup(
        [sys.argv[0], f"-runs={options.runs}", f"-seed={options.seed}", *limits, str(corpus)], run, custom_mutator=mutate
    )
    atheris.Fuzz()


def with_another_value(data: bytes, suffix: str, draw: random.Random) -> bytes | None:
    """JSON or YAML with one value replaced; None for other formats, for what cannot be read, and every other time."""
    if suffix not in (".json", ".yaml") or draw.random() < 0.5:
        return None
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError):
        return None
    places = list(places_in(content))
    if not places:
        return None
    container, key = draw.choice(places)
    if isinstance(container, dict) and draw.random() < 0.2:
        container[draw.choice(["", "x", "frame"])] = container.pop(key)
    else:
        container[key] = draw.choice(VALUES)
    return (json.dumps(content, default=str) if suffix == ".json" else yaml.safe_dump(content)).encode()


def places_in(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in nested lists and mappings: what holds it, and its index or key."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(entries):
        yield content, key
        yield from places_in(value)


if __name__ == "__main__":
    sys.exit(main())
