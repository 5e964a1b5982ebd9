#!/usr/bin/env bash
# Trains the phantom's regressor as it is shipped (models/phantom_regressor.safetensors), then registers X-rays of all the range
# without a start. Ten minutes of training on whatever cores there are; `scripts/train_phantom.sh 60s` for a look.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python benchmarks/phantom.py "$work/ct"
fluoro-reg train regressor --ct "$work/ct" --range config/carm.yaml --out "$work/w.safetensors" --budget "${1:-10min}"
fluoro-reg simulate --ct "$work/ct" --range config/carm.yaml --out "$work/cases" --cases 60
python benchmarks/predictions.py "$work/cases" --model "$work/w.safetensors" --range config/carm.yaml
fluoro-reg evaluate --cases "$work/cases" --model "$work/w.safetensors" --methods regressor-lm,diffpose --out "$work/evaluation"
cp "$work/w.safetensors" models/phantom_regressor.safetensors
cp "$work/w.png" phantom_regressor.png
