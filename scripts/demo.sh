#!/usr/bin/env bash
# Set up the environment and run the demo on a phantom; it writes demo_output/. Arguments are passed to the demo:
# `scripts/demo.sh --seed 3`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

exec fluoro-reg demo --out demo_output "$@"
