#!/usr/bin/env bash
# Sets up what the tests need and runs them all: linters, then tests, of which one checks the types.
#
#   bash run_tests.sh              everything; some 15 minutes on two cores, the first time a few more
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

ensure_env dev
python=$ENV_PYTHON
# Two at a time: making one takes one processor, most of the time.
(ensure_env serve) &
serve=$!
trap 'kill "$serve" 2>/dev/null || true' EXIT
ensure_env eval
ensure_env ray
ensure_env train
wait "$serve" || exit
trap - EXIT

# DeepSpeed compiles its CPU optimizer the first time: that takes a C++ compiler and Python's headers.
has_compiler() {
  command -v g++ >/dev/null &&
    "$ENV_PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}
if [[ $fast == no ]] && ! has_compiler; then
  if ((EUID == 0)) && command -v apt-get >/dev/null; then
    env_say "installing the packages g++ and python3-dev"
    if ! apt-get update -qq || ! apt-get install -y -qq --no-install-recommends g++ python3-dev >/dev/null; then
      env_stop 1 "g++ and python3-dev could not be installed"
    fi
  else
    env_stop 2 "the tests of DeepSpeed need g++ and the headers of Python" \
      "install the packages g++ and python3-dev, or run: bash run_tests.sh --fast"
  fi
fi

# Slurm is started for a test of its scripts; where it is missing they are only compared with recorded ones.
if [[ $fast == no ]] && ! command -v slurmctld >/dev/null && ((EUID == 0)) && command -v apt-get >/dev/null; then
  env_say "installing the packages slurm-wlm and munge"
  if ! timeout 120 apt-get update -qq ||
    ! timeout 300 apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null; then
    env_say "they could not be installed: no script runs on a real Slurm"
  fi
fi

export PATH="$here/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1
mapfile -d '' shell_scripts < <(find . -path './.*' -prune -o -name '*.sh' -print0)
shell_scripts+=(.ci/run)

check() {
  printf '%s\n' "$*" >&2
  "$@" || failed=yes
}
failed=no
check ruff check --quiet .
check ruff format --quiet --check .
check shellcheck -x "${shell_scripts[@]}"
check shfmt -d "${shell_scripts[@]}"
[[ $failed == no ]] || env_stop 1 "the checks above failed; the tests were not run"

# Without it every process that a test starts would compile our modules anew.
unset PYTHONDONTWRITEBYTECODE
# One test file stays in one process, so that files whose tests train do not all train at once; they begin in the
# order of tests/conftest.py, the longest first. Tests wait for other processes much of the time, the fast ones most
# of it: there are more of them at once than two processors.
[[ $fast == yes ]] && at_once=4 || at_once=3
exec "$python" -m pytest -q -n "$at_once" --dist loadfile --no-loadscope-reorder --timeout 900 "${arguments[@]}"
