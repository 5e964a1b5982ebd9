"""Registers, local memory and instructions per sample of the Triton kernels, compiled for GPUs without one.

    python benchmarks/gpu_code.py [--capability 80 --capability 90] [--json]

The kernels of the renderer march through samples. Those that sum up what was rendered have none.
Triton compiles for a given target and includes NVIDIA's assembler and disassembler, so this runs on any Linux machine. The
instructions per sample give a bound on the time: samples / 32 * instructions / (multiprocessors * 4 schedulers * clock).
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # before Triton is imported

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fluoro_reg.registration.stages import device_sums_kernel
from fluoro_reg.registration.tracking import device_kernels
from fluoro_reg.registration.tracking.device_passes import warps_of
from fluoro_reg.rendering.backends.triton import kernels as kernels
from fluoro_reg.rendering.backends.triton.ops import TILE

TILE_V, TILE_U = TILE


def rendering(kernel: Any, derivatives: int, lanes_per_ray: int, voxels: str) -> tuple[Any, dict[str, Any], int, str]:
    """Return a variant of a kernel of the renderer: kernel, constants, warps, and the type of the voxels."""
    constants = {"PARAMETERS": derivatives, "SPLIT": lanes_per_ray, "TILE_V": TILE_V, "TILE_U": TILE_U}
    return kernel, constants, TILE_V * TILE_U * lanes_per_ray // 32, voxels


def summing(kernel: Any, lanes: int, saturated: bool) -> tuple[Any, dict[str, Any], int, str]:
    """Return a variant of a kernel of the tracker."""
    return kernel, {"LANES": lanes, "SATURATED": saturated, "ROBUST": True}, warps_of(lanes), ""


VARIANTS = [
    rendering(kernels.march_kernel, 0, 1, "fp32"),
    rendering(kernels.march_kernel, 6, 1, "fp32"),
    rendering(kernels.march_kernel, 6, 2, "fp32"),
    rendering(kernels.march_kernel, 6, 4, "fp32"),
    rendering(kernels.march_kernel, 6, 1, "fp16"),
    rendering(kernels.gram_kernel, 6, 1, "fp32"),
    rendering(kernels.gram_kernel, 6, 4, "fp32"),
    summing(device_kernels.gradient_sums_kernel, 128, False),
    summing(device_kernels.gradient_sums_kernel, 128, True),
    summing(device_kernels.patch_sums_kernel, 256, False),
    summing(device_kernels.patch_sums_kernel, 1024, True),
    (device_sums_kernel.batch_sums_kernel, {"ROBUST": True, "LANES": 128}, 4, ""),
]
ARGUMENTS = {
    "layout": "*i32", "metric": "*fp32", "scale": "fp32", "source": "*fp64", "direction": "*fp64", "source_tangent": "*fp32",
    "direction_tangent": "*fp32", "axes": "*i32", "fixed": "*fp32", "weight": "*fp32", "out": "*fp32", "height": "i32",
    "width": "i32", "images": "*fp32", "target": "*fp32", "patch_weight": "*fp32", "saturation": "fp32", "gain": "fp32",
    "offset": "fp32", "robust_scale": "fp32", "floor": "fp32", "pixels": "i32", "columns": "i32", "size_v": "i32",
    "size_u": "i32", "fit": "*fp32", "programs": "i32",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, action="append", help="compute capability times ten; repeatable")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    variants = [compile_variant(*variant, capability) for capability in options.capability or [90] for variant in VARIANTS]
    if options.json:
        print(json.dumps({"triton": triton.__version__, "variants": variants}, indent=1))
        return
    columns = list(variants[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for variant in variants:
        print("| " + " | ".join(str(variant[column]) for column in columns) + " |")


def compile_variant(kernel: Any, constants: dict[str, Any], warps: int, voxels: str, capability: int) -> dict[str, Any]:
    """Compile one kernel for one target and return its figures."""
    types = {"voxels": f"*{voxels}", **ARGUMENTS}
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
    binary = triton.compile(source, GPUTarget("cuda", capability, 32), {"num_warps": warps}).asm["cubin"]
    usage, code = disassemble(binary, "-res-usage"), disassemble(binary, "-sass")
    return {
        "kernel": kernel.fn.__name__,
        "constants": " ".join(f"{name}={value}" for name, value in constants.items() if not name.startswith("TILE")),
        "voxels": voxels,
        "capability": capability,
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "local_bytes": int(re.search(r"STACK:(\d+)", usage)[1]) + int(re.search(r"LOCAL:(\d+)", usage)[1]),
        "instructions_per_sample": loop_instructions(code) if voxels else None,
    }


def disassemble(binary: bytes, what: str) -> str:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        return subprocess.run([tool, what, file.name], capture_output=True, text=True, check=True).stdout


def loop_instructions(code: str) -> int:
    """Return the instructions per sample of the loop with the four loads of a sample.

    The loop is from the target of a backward branch to the branch. If it is unrolled, the count is divided by its samples.
    """
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);", code)
    loops = []
    for end, (address, text) in enumerate(lines):
        branch = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if branch and int(branch[1], 16) < int(address, 16):
            begin = next(i for i, (position, _) in enumerate(lines) if int(position, 16) >= int(branch[1], 16))
            loads = sum("LDG" in instruction for _, instruction in lines[begin : end + 1])
            if loads and loads % 4 == 0:
                loops.append((end + 1 - begin) // (loads // 4))
    return min(loops)


if __name__ == "__main__":
    main()
