#!/usr/bin/env bash
# Set up the environment and run every check: lint, format, spelling, types, tests. Arguments are passed to pytest:
# `scripts/test.sh -k tilt`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

# Without a GPU, the GPU kernels are tested in Triton's interpreter. CUDA builds of torch include Triton.
python -c 'import triton' 2>/dev/null || pip_install "Triton, for its interpreter" -e "$project[interpreter]"

ruff check .
ruff format --check .
typos
mypy

# Two processes, because a small machine has two cores.
exec pytest -n "${FLUORO_REG_TEST_PROCESSES:-2}" --dist loadfile "$@"
