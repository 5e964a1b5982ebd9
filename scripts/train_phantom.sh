#!/usr/bin/env bash
# Train the phantom's regressor that is shipped in models/phantom_regressor.safetensors, and evaluate it without initial poses
# on X-rays of the whole range. Training takes ten minutes on any number of cores; `scripts/train_phantom.sh 60s` is a quick trial.
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
