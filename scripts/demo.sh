#!/usr/bin/env bash
# The whole chain on a phantom, set-up included; writes demo_output/. Arguments go to the demo: `scripts/demo.sh --seed 3`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

exec fluoro-reg demo --out demo_output "$@"
