#!/usr/bin/env bash
# Sets up what the tests need and runs them all: linters, then tests, of which one checks the types.
#
#   bash run_tests.sh              everything; less than a quarter of an hour on two cores, set-up and all
#   bash run_tests.sh --fast       without those that start engines or take long; under a minute once set up
#   bash run_tests.sh tests/test_env.py -k interrupted     other arguments go to pytest
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/env.sh
source "$here/scripts/env.sh"
cd -- "$here"

arguments=()
fast=no
for argument in "$@"; do
  if [[ $argument == --fast ]]; then fast=yes; else arguments+=("$argument"); fi
done
[[ $fast == no ]] || arguments+=(-m "not slow")

# What is missing of Debian's packages, when it is root that runs the tests: DeepSpeed compiles its CPU optimizer the
# first time, which takes a compiler and Python's headers; Slurm is started for a test of its scripts.
install_packages() {
  local packages=()
  has_compiler || packages+=(g++ python3-dev)
  command -v slurmctld >/dev/null || packages+=(slurm-wlm munge)
  ((${#packages[@]} && EUID == 0)) && command -v apt-get >/dev/null || return 0
  env_say "installing the packages ${packages[*]}"
  timeout 120 apt-get update -qq || true
  # One by one: where Slurm is not to be had its scripts are only compared with recorded ones.
  for package in "${packages[@]}"; do
    timeout 300 apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
      env_say "$package could not be installed"
  done
}

has_compiler() {
  command -v g++ >/dev/null &&
    "$ENV_PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

check() {
  printf '%s\n' "$*" >&2
  "$@" || failed=yes
}

ensure_env dev
python=$ENV_PYTHON
# Side by side: making an environment takes one processor, and waits for the disk and the network.
beside=()
trap 'kill "${beside[@]}" 2>/dev/null || true' EXIT
(ensure_env serve) &
beside+=($!)
(
  ensure_env eval
  ensure_env ray
) &
beside+=($!)
if [[ $fast == no ]]; then
  install_packages &
  beside+=($!)
fi

export PATH="$here/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
mapfile -d '' shell_scripts < <(find . -path './.*' -prune -o -name '*.sh' -print0)
shell_scripts+=(.ci/run)
failed=no
check ruff check --quiet .
check ruff format --quiet --check .
check shellcheck -x "${shell_scripts[@]}"
check shfmt -d "${shell_scripts[@]}"
[[ $failed == no ]] || env_stop 1 "the checks above failed; the tests were not run"

ensure_env train
for process in "${beside[@]}"; do wait "$process" || exit; done
trap - EXIT
if [[ $fast == no ]] && ! has_compiler; then
  env_stop 2 "the tests of DeepSpeed need g++ and the headers of Python" \
    "install the packages g++ and python3-dev, or run: bash run_tests.sh --fast"
fi

# Without it every process that a test starts would compile our modules anew.
unset PYTHONDONTWRITEBYTECODE
# One test file stays in one process, so that files whose tests train do not all train at once; they begin in the
# order of tests/conftest.py, the longest first. Tests wait for other processes much of the time, the fast ones most
# of it: there are more of them at once than two processors.
[[ $fast == yes ]] && at_once=4 || at_once=3
exec "$python" -m pytest -q -n "$at_once" --dist loadfile --no-loadscope-reorder --timeout 900 "${arguments[@]}"
