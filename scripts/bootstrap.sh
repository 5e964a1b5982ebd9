# Create the project's environment, `.venv`, and activate it. Source this from bash; it is safe to repeat.
#
# On a plain Debian or Ubuntu it installs everything from Python wheels, including ROS 2 (embedded_ros/). If a ROS 2 is already
# sourced, the environment uses its packages instead of the wheels.
#
# Optional settings:
#   PYTHON                  the Python to use (3.10 or newer); default: the first usable one
#   FLUORO_REG_TORCH        pip requirement for torch; default torch==2.13.0. Another CUDA version may need another torch
#   FLUORO_REG_TORCH_INDEX  package index for torch, such as that of PyTorch for a CUDA version or for the CPU
#   FLUORO_REG_VENV         folder of the environment; default .venv in the project

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${FLUORO_REG_VENV:-$project/.venv}"
setup_log="$venv/setup.log"

say() { printf '%s\n' "$*" >&2; }
die() { say "fluoro_reg set-up: $*"; exit 1; }

# The ROS wheels re-execute Python once and record that in these variables. If they are inherited from another environment,
# the libraries of this one are not found.
if [ -n "${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}" ]; then unset _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH; fi
unset PYTHONHOME

is_usable_python() {
  command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python3.14}; do
    if is_usable_python "$candidate"; then command -v "$candidate"; return; fi
  done
}

has_installed_ros() { [ -n "${ROS_DISTRO:-}" ] && "$1" -c 'import rclpy' >/dev/null 2>&1; }

missing_tools() {  # print the names of the Debian packages that are missing
  local python="$1" version
  version="$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')"
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || printf 'python%s-venv ' "$version"
  has_installed_ros "$python" && return
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
    || printf 'python%s-dev ' "$version"
  command -v g++ >/dev/null 2>&1 || printf 'g++ '
}

apt_install() {
  say "installing with apt: $*"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$apt_log" 2>&1 \
    || { tail -n 15 "$apt_log" >&2; die "apt could not install $*; see the lines above"; }
}

ensure_tools() {
  local missing apt_log
  apt_log="$(mktemp)"
  if [ -z "$(find_python)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt_install python3; fi
  python="$(find_python)"
  [ -n "$python" ] || die "Python 3.10 or newer was not found; install it (Debian, Ubuntu: apt install python3) or set PYTHON"
  missing="$(missing_tools "$python")"
  if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt_install $missing
    else
      die "packages are missing; install them and run this again: sudo apt install $missing"
    fi
    missing="$(missing_tools "$python")"
    [ -z "$missing" ] || die "$python still lacks $missing; set PYTHON to a Python that includes it"
  fi
  rm -f "$apt_log"
}

pip_install() {  # arguments: a description for the log, then the arguments of pip install
  local what="$1" begin="$SECONDS"
  shift
  printf '  %-44s' "$what" >&2
  if ! "$venv/bin/python" -m pip install --disable-pip-version-check "$@" >>"$setup_log" 2>&1; then
    say "failed"
    grep -v 'is ignored: it is neither a file nor a directory' "$setup_log" | tail -n 25 >&2
    die "pip could not install $what; see the lines above and the complete log in $setup_log"
  fi
  say "$((SECONDS - begin)) s"
}

install_ros_wheels() {
  if [ "$(uname -m)" != x86_64 ]; then
    say "  ROS 2: there are no wheels for $(uname -m); to use the node, source an installed ROS 2"
    return
  fi
  local constraints="$project/embedded_ros/constraints-kilted.txt"
  pip_install "ROS 2 Kilted (rclpy, messages)" -c "$constraints" "ros-rclpy[fastrtps]" ros-builtin-interfaces \
    ros-diagnostic-msgs ros-geometry-msgs ros-lifecycle-msgs ros-rcl-interfaces ros-sensor-msgs ros-std-msgs ros-std-srvs \
    ros-visualization-msgs
  pip_install "tf2_msgs, built locally" -c "$constraints" "$project/embedded_ros/tf2_msgs"
}

link_shares() {  # the files of an ament installation that an editable pip installation lacks; see data_files in setup.py
  local share="$venv/share/fluoro_reg" index="$venv/share/ament_index/resource_index/packages" file name
  rm -rf "$share"
  mkdir -p "$index" "$venv/lib/fluoro_reg"
  ln -sfn "$project/resource/fluoro_reg" "$index/fluoro_reg"
  # Link files, not folders: `ros2 launch` does not search linked folders for launch files.
  for file in "$project"/{package.xml,launch/*.py,config/*.{yaml,rviz,json},config/{methods,views}/*.yaml,models/*.safetensors} \
    "$project/embedded_ros/fastdds_loopback.xml"; do
    name="${file#"$project"/}"
    mkdir -p "$(dirname "$share/$name")"
    ln -sf "$file" "$share/$name"
  done
  for name in registration_node bag_player tf_listener; do ln -sfn "../../bin/$name" "$venv/lib/fluoro_reg/$name"; done
}

make_environment() {
  local begin="$SECONDS" extras=formats,decoders,datasets,training,test,dev,docs system=() limits=()
  rm -rf "$venv"
  if has_installed_ros "$python"; then
    system=(--system-site-packages)
    say "setting up $venv with the installed ROS 2 $ROS_DISTRO"
  else
    say "setting up $venv (the first time takes a few minutes)"
  fi
  "$python" -m venv "${system[@]}" "$venv" \
    || die "$python could not create an environment in $venv; check that the folder is writable"
  : >"$setup_log"
  if [ "${#system[@]}" -gt 0 ]; then  # compiled ROS packages (cv_bridge) need the numpy that they were built with
    "$python" -c 'import numpy; print(f"numpy=={numpy.__version__}")' >"$venv/limits.txt" 2>/dev/null && limits=(-c "$venv/limits.txt")
  fi
  "$venv/bin/python" -c 'import cv2' >/dev/null 2>&1 || extras="$extras,opencv"  # an installed ROS may include OpenCV
  pip_install "torch" "${limits[@]}" ${FLUORO_REG_TORCH_INDEX:+--index-url "$FLUORO_REG_TORCH_INDEX"} \
    "${FLUORO_REG_TORCH:-torch==2.13.0}"
  pip_install "fluoro_reg" "${limits[@]}" -e "$project[$extras]"
  [ "${#system[@]}" -gt 0 ] || install_ros_wheels
  say "ready in $((SECONDS - begin)) s"
}

# A checksum of everything that the environment depends on; if it has not changed, the environment is kept.
state="$(cd "$project" && cat setup.py setup.cfg scripts/bootstrap.sh embedded_ros/constraints-kilted.txt \
  embedded_ros/tf2_msgs/{CMakeLists.txt,pyproject.toml,package.xml,msg/TFMessage.msg} | cksum)"
state="$state $project ${ROS_DISTRO:-wheels} ${PYTHON:-} ${FLUORO_REG_TORCH:-} ${FLUORO_REG_TORCH_INDEX:-}"
if [ "$(cat "$venv/fluoro_reg.state" 2>/dev/null)" != "$state" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
  ensure_tools
  make_environment
  printf '%s' "$state" >"$venv/fluoro_reg.state"
fi
link_shares  # every time: files may have been added or removed

# shellcheck disable=SC1091
. "$venv/bin/activate"
if [ -d "$venv/share/rclpy" ]; then
  export AMENT_PREFIX_PATH="$venv"
else
  export AMENT_PREFIX_PATH="$venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
  export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"  # an installed `ros2` runs launch files in the system's Python
fi
