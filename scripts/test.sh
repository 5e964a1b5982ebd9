#!/usr/bin/env bash
# Every check of the project, set-up included: lint, format, spelling, types, tests. Arguments go to pytest: `scripts/test.sh -k tilt`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

# The GPU kernels are tested in Triton's interpreter where there is no GPU; CUDA builds of torch bring their own Triton.
python -c 'import triton' 2>/dev/null || pip_install "Triton, for its interpreter" "$project[interpreter]"

ruff check .
ruff format --check .
typos
mypy

# Two processes: the tests are many and small, and two cores are what a modest machine has.
exec pytest -n "${FLUORO_REG_TEST_PROCESSES:-2}" --dist loadfile "$@"
