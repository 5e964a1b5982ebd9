#!/usr/bin/env bash
# Train both learned similarities of the phantom and evaluate them: `scripts/train_similarities.sh [BUDGET [FOLDER]]`.
#
# The networks are small enough for two cores. BUDGET is the training time of each (10min); 60s is enough for a first look.
# FOLDER (similarities) must not exist; it receives the weights, the evaluation and the plots. The evaluation compares ProST
# with CMA-ES from its published initial poses, and Levenberg-Marquardt with gradient descent in three ranges of initial poses.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/bootstrap.sh

budget=${1:-10min}
work=${2:-similarities}
mkdir "$work"
range=benchmarks/ranges/about_ap.yaml
python benchmarks/phantom.py "$work/ct"
for kind in prost spherical; do
  fluoro-reg train similarity --kind $kind --ct "$work/ct" --range $range --out "$work/$kind.safetensors" --budget "$budget" \
    --set pairs.around=middle # as published
done
fluoro-reg simulate --ct "$work/ct" --range $range --out "$work/cases" --cases 12 --set 'variants=[standard]'
python benchmarks/spread_starts.py "$work/cases" --range $range
fluoro-reg evaluate --cases "$work/cases" --similarity "$work/prost.safetensors" --methods cma-es,prost,prost-cmaes --out "$work/evaluation"
fluoro-reg simulate --ct "$work/ct" --range $range --out "$work/bands" --cases 9 --set 'variants=[standard]' \
  --set 'start_mm=[[10,25],[25,50],[50,100]]'
python benchmarks/learned_descents.py "$work/bands" --similarity "$work/prost.safetensors" \
  --similarity "$work/spherical.safetensors" --out "$work/descents"
python benchmarks/similarity_landscape.py "$work/cases/case_000" --similarity "$work/prost.safetensors" \
  --similarity "$work/spherical.safetensors" --out "$work/landscape.png"
