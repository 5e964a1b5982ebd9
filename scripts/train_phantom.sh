#!/usr/bin/env bash
# Trains the phantom's regressor as it is shipped (config/phantom_regressor.safetensors), then registers simulated X-rays without
# a start. On two quiet cores about 20 minutes; `scripts/train_phantom.sh 3000` takes an eighth of the steps.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python benchmarks/phantom.py "$work/ct"
fluoro-reg train regressor --ct "$work/ct" --range config/carm.yaml --out "$work/w.safetensors" --set steps="${1:-24000}"
fluoro-reg simulate --ct "$work/ct" --out "$work/cases" --cases 60
python benchmarks/without_start.py "$work/cases" --model "$work/w.safetensors" --method regressor-lm --method diffpose
cp "$work/w.safetensors" config/phantom_regressor.safetensors
cp "$work/w.png" phantom_regressor.png
