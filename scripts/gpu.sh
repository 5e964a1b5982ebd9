#!/usr/bin/env bash
# Everything that needs a GPU in one run of less than eight minutes, in order of value. Each part has a time limit of its own, and
# gpu.json, gpu.md and gpu.log in the given folder are written anew after each of them. What has run on a GPU before comes last.
#
#     scripts/gpu.sh OUT             on a machine with a CUDA device
#     scripts/gpu.sh --dry-run OUT   the same parts, small, on the CPU and in Triton's interpreter
#
# Needs only what the package imports; PYTHONPATH may stand in for an installation. FLUORO_REG_GPU_SECONDS replaces the 460 s.
set -uo pipefail
cd "$(dirname "$0")/.."

device=cuda
if [ "${1:-}" = "--dry-run" ]; then
  device=cpu
  shift
fi
out="${1:?usage: scripts/gpu.sh [--dry-run] OUT}"
mkdir -p "$out" && out="$(cd "$out" && pwd)"
python="${PYTHON:-python3}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
patience=1
[ "$device" = cuda ] || patience=3 # the limits below are for a GPU
total="${FLUORO_REG_GPU_SECONDS:-$((460 * patience))}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir "$work/parts"
: >"$out/gpu.log"
number=10

# part LIMIT NEEDED TITLE COMMAND...: run a command for at most LIMIT seconds, if at least NEEDED are left of the whole.
part() {
  local limit=$(($1 * patience)) needed=$2 title=$3 begin=$SECONDS left=$((total - SECONDS)) status=3
  shift 3
  number=$((number + 1))
  local name="$work/parts/$number"
  : >"$name.out"
  : >"$name.err"
  if [ "$left" -ge "$needed" ]; then
    [ "$limit" -le "$left" ] || limit=$left
    echo "== $title ($limit s of $left s left)" | tee -a "$out/gpu.log"
    timeout --kill-after=5 "$limit" "$@" >"$name.out" 2>"$name.err"
    status=$?
    cat "$name.out" "$name.err" >>"$out/gpu.log"
  fi
  printf '{"title": "%s", "status": %d, "seconds": %d, "limit": %d}\n' "$title" "$status" "$((SECONDS - begin))" "$limit" \
    >"$name.json"
  echo "== $title: status $status after $((SECONDS - begin)) s" | tee -a "$out/gpu.log"
  "$python" benchmarks/gpu_page.py "$work/parts" "$out"
}

fluoro_reg() { "$python" -m fluoro_reg.cli.main "$@"; }
export -f fluoro_reg
export python work device

if [ "$device" = cuda ]; then
  voxels=256 peers=nanodrr sequences="demo long" cases=12 budget=60s pairs_budget=40s needs=90 sizes="--frames 40 --cases 12"
  kernels=(env) kernels_s=90
else
  voxels=32 peers=none sequences=demo cases=2 budget=5s pairs_budget=5s needs=30 sizes="--frames 16 --cases 2 --repeats 1"
  kernels=(env TRITON_INTERPRET=1) kernels_s=250 # nothing else is tried in the interpreter, which is a thousand times slower
fi
export cases pairs_budget

kernel_tests() { # KEYWORDS [WORKERS]: of the kernels against float64, and of the captured graphs
  local workers=""
  ! "$python" -c "import xdist" 2>/dev/null || workers="${2:--p no:xdist}"
  "$python" -m pytest -q -p no:cacheprovider $workers -k "$1" test/rendering/test_triton_renderer.py \
    test/rendering/test_backend_parity.py test/registration/stages/test_ncc_refiner.py \
    test/registration/stages/test_gradient_refiner.py test/registration/tracking/test_fused_passes.py
}
scene() {
  "$python" benchmarks/phantom.py "$work/ct" &&
    fluoro_reg simulate --ct "$work/ct" --range config/carm.yaml --out "$work/cases" --cases "$cases"
}
registrations() { # DEVICE: in one process, after a warm-up; from initial poses of 10 to 25 mm, and from none
  "$python" benchmarks/cases.py "$work/cases" --set device="$1" --run lm-gradient-ncc@initial --run global-lm@none
}
train() { # BUDGET: train a regressor, and register the cases without an initial pose
  fluoro_reg train regressor --ct "$work/ct" --range config/carm.yaml --out "$work/$1.safetensors" --budget "$1" --device "$device" &&
    fluoro_reg evaluate --cases "$work/cases" --model "$work/$1.safetensors" --methods regressor-lm --out "$work/evaluation-$1" \
      --device "$device" --json
}
train_similarity() { # KIND METHODS: train a similarity, and register the cases from their initial poses
  fluoro_reg train similarity --kind "$1" --ct "$work/ct" --range config/carm.yaml --out "$work/$1.safetensors" \
    --budget "$pairs_budget" --device "$device" &&
    fluoro_reg evaluate --cases "$work/cases" --similarity "$work/$1.safetensors" --methods "$2" \
      --out "$work/evaluation-$1" --device "$device" --json
}
export -f kernel_tests registrations train train_similarity scene

part 30 10 "card and bandwidth" "$python" benchmarks/gpu_card.py
part 60 20 "captured graphs" "${kernels[@]}" bash -c 'kernel_tests "captured or kernel_gives"'
part 90 20 "the host's part of a frame and of a registration" "$python" benchmarks/gpu_host.py --device "$device" $sizes
part 80 20 "tracking" "$python" benchmarks/tracking.py --device "$device" --sequences $sequences --frames 150 --tracker new
part 60 20 "phantom and cases" bash -c scene
part 60 20 "registrations" bash -c "registrations $device"
part 150 "$needs" "ProST trained for $pairs_budget" bash -c 'train_similarity prost cma-es,prost-cmaes'
part 120 "$needs" "the spherical similarity trained for $pairs_budget" bash -c 'train_similarity spherical spherical-lm'
part "$kernels_s" 20 "kernels against float64" "${kernels[@]}" \
  bash -c 'kernel_tests "(triton or gives) and not spilling and not captured" "-n 8"' # spilling needs no GPU
part 150 "$needs" "a regressor trained for $budget" bash -c "train $budget"
part 70 20 "renderers" "$python" benchmarks/render.py --device "$device" --size "$voxels" --peers "$peers" --quick
part 60 20 "derivatives against float64" \
  "${kernels[@]}" "$python" benchmarks/derivatives.py --size "$([ "$device" = cuda ] && echo 48 || echo 12)"
[ "$device" = cpu ] || part 60 20 "registrations on the CPU of that machine" bash -c "registrations cpu"
