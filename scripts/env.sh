#!/usr/bin/env bash
# Environments, each made when a command first needs it.
#
#   source scripts/env.sh; ensure_env train    from bash: afterwards ENV_PYTHON is its Python
#   bash scripts/env.sh train                  from elsewhere: prints its Python
#   bash scripts/env.sh --check train          makes nothing; exit 0 if it is there, whole and up to date
#
#   core   .venv          agent-sft itself and what it imports
#   dev    .venv          the same, with the tools that test it
#   NAME   .venvs/NAME    an engine, from requirements/NAME.txt; from requirements/NAME-nvidia.txt where
#                         that exists and the machine has an NVIDIA GPU
#
#   AGENT_SFT_NAME_PYTHON   an existing installation of engine NAME (AGENT_SFT_TRAIN_PYTHON, ...):
#                           it is used as it is and nothing is installed
#   AGENT_SFT_BASE_PYTHON   the Python to make environments with
#
# An environment is whole when its stamp equals what it would be made from. The stamp is removed first and
# written last, so whatever was killed in between is made anew. One process at a time makes an environment:
# it holds a lock that the kernel takes back when it ends, and with it all that it started.

ENV_ROOT=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
ENV_STAMP=.agent-sft-stamp
declare -gA ENV_ENGINES=([train]=llamafactory [serve]=vllm [eval]=inspect)
ENV_UV=
ENV_CHILD=

env_say() { printf 'setup: %s\n' "$*" >&2; }

# env_stop STATUS WHAT [FIX]
env_stop() {
  printf 'error: %s\n' "$2" >&2
  [[ -z ${3-} ]] || printf '  %s\n' "$3" >&2
  exit "$1"
}

env_has_nvidia() {
  # Files that the driver makes: asking nvidia-smi takes a second or more.
  [[ -e /proc/driver/nvidia/version || -e /dev/nvidia0 || -e /dev/dxg ]]
}

# Sets env_name, env_folder, env_requirements, and env_wanted: what the environment would be made from.
env_describe() {
  env_name=$1
  env_folder=$ENV_ROOT/.venvs/$1
  env_requirements=requirements/$1.txt
  if [[ ! $1 =~ ^[a-z0-9_]+$ || ! -f $ENV_ROOT/$env_requirements ]]; then
    local file known=
    for file in "$ENV_ROOT"/requirements/*.txt; do
      [[ ${file##*/} == *-* ]] || known+=" $(basename -- "$file" .txt)"
    done
    env_stop 2 "there is no environment '$1'" "there are:$known"
  fi
  if [[ $1 == core || $1 == dev ]]; then
    env_folder=$ENV_ROOT/.venv
  elif [[ -f $ENV_ROOT/requirements/$1-nvidia.txt ]] && env_has_nvidia; then
    env_requirements=requirements/$1-nvidia.txt
  fi
  local content
  IFS= read -r -d '' content <"$ENV_ROOT/$env_requirements" || true
  env_wanted="name: $1"$'\n'"clone: $ENV_ROOT"$'\n'"$content"
}

# Reads the stamp into env_python (path and version it was made with), env_asked (AGENT_SFT_BASE_PYTHON at
# that time) and env_made (as env_wanted). Fails where the environment is not whole.
env_read_stamp() {
  [[ -x $env_folder/bin/python && -f $env_folder/$ENV_STAMP ]] || return 1
  {
    IFS= read -r env_python && IFS= read -r env_asked && { IFS= read -r -d '' env_made || true; }
  } <"$env_folder/$ENV_STAMP"
}

env_is_current() {
  env_read_stamp || return 1
  # What holds the test tools holds all of core, and keeps them.
  if [[ $env_name == core && $env_made == "name: dev"* ]]; then
    env_describe dev
  fi
  [[ $env_made == "$env_wanted" ]] && env_python_fits
}

env_python_fits() {
  [[ -z ${AGENT_SFT_BASE_PYTHON-} || $AGENT_SFT_BASE_PYTHON == "$env_asked" ]] ||
    [[ $(env_base_python) == "$env_python" ]]
}

# Prints path and version of the Python that environments are made with.
env_base_python() {
  local candidate found candidates=(python3.11 python3.12 python3.13 python3)
  [[ -z ${AGENT_SFT_BASE_PYTHON-} ]] || candidates=("$AGENT_SFT_BASE_PYTHON")
  for candidate in "${candidates[@]}"; do
    # The interpreter below wrappers and virtual environments, since those come and go.
    if found=$("$candidate" -I -c '
import os, sys
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit(1)
base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(base, "%d.%d.%d" % sys.version_info[:3])' 2>/dev/null); then
      printf '%s\n' "$found"
      return
    fi
  done
  if [[ -n ${AGENT_SFT_BASE_PYTHON-} ]]; then
    env_stop 2 "AGENT_SFT_BASE_PYTHON: '$AGENT_SFT_BASE_PYTHON' is not a Python from 3.11 to 3.13"
  fi
  env_stop 2 "no Python from 3.11 to 3.13 found (tried: ${candidates[*]})" \
    "install one, or set AGENT_SFT_BASE_PYTHON to its path"
}

# ensure_env NAME: makes the environment if it is missing or out of date. Sets ENV_PYTHON.
ensure_env() {
  local variable=AGENT_SFT_${1^^}_PYTHON
  env_describe "$1"
  if [[ $env_folder != "$ENV_ROOT/.venv" && -n ${!variable-} ]]; then
    ENV_PYTHON=$(type -P -- "${!variable}") ||
      env_stop 2 "$variable: '${!variable}' is not a program that can be run" \
        "point it to the Python of an installation, or unset it and one is made"
    [[ $ENV_PYTHON == /* ]] || ENV_PYTHON=$PWD/$ENV_PYTHON
    return
  fi
  env_is_current || env_make
  ENV_PYTHON=$env_folder/bin/python
}

env_make() {
  local lock name=$env_name base=$ENV_ROOT/.venvs/$env_name
  [[ $env_folder != "$ENV_ROOT/.venv" ]] || base=$ENV_ROOT/.venvs/core
  ENV_UV=uv
  if [[ $name != uv ]] && ! command -v uv >/dev/null; then
    ensure_env uv
    ENV_UV=$env_folder/bin/uv
    env_describe "$name"
  fi
  command -v flock >/dev/null || env_stop 2 "flock is missing" "install the package util-linux"
  if ! mkdir -p -- "$ENV_ROOT/.venvs" || ! exec {lock}>>"$base.lock"; then
    env_stop 2 "environments cannot be made in $ENV_ROOT/.venvs" "see the line above"
  fi
  if ! flock -n "$lock"; then
    env_say "another process is making the $env_name environment; waiting for it"
    flock "$lock"
  fi
  env_is_current || env_build "$base"
  # What runs next must not hold the lock.
  exec {lock}>&-
}

# env_build BASE: BASE.log gets the output; BASE.started says that an unfinished folder is ours.
env_build() {
  local python asked=${AGENT_SFT_BASE_PYTHON-} about=
  env_log=$1.log
  python=$(env_base_python) || exit
  trap 'env_end 130' INT
  trap 'env_end 143' TERM
  trap 'env_end 129' HUP
  rm -rf -- "$1".old.*
  if ! env_read_stamp || [[ $env_python != "$python" || $env_made != *"clone: $ENV_ROOT"$'\n'* ]]; then
    # Anything but a whole environment of the same Python at the same place is made from nothing.
    if [[ -e $env_folder || -L $env_folder ]]; then
      if [[ ! -f $1.started && ! -f $env_folder/$ENV_STAMP ]]; then
        env_stop 2 "$env_folder: this was not made by agent-sft" "move it away, or delete it"
      fi
      mv -- "$env_folder" "$1.old.$$" || env_failed
    fi
  fi
  : >"$1.started" || env_failed
  rm -f -- "$env_folder/$ENV_STAMP"
  [[ ! -f $ENV_ROOT/requirements/$env_name.in ]] ||
    IFS= read -r about <"$ENV_ROOT/requirements/$env_name.in"
  [[ $about == '# '* ]] || about="# packages of $env_requirements"
  env_say "making the $env_name environment in $env_folder: ${about#\# }"
  : >"$env_log" || env_failed
  if [[ $env_name == uv ]]; then env_fill_uv "${python% *}"; else env_fill "${python% *}"; fi
  rm -rf -- "$1".old.*
  if ! printf '%s\n%s\n%s' "$python" "$asked" "$env_wanted" >"$env_folder/$ENV_STAMP.new" ||
    ! mv -- "$env_folder/$ENV_STAMP.new" "$env_folder/$ENV_STAMP"; then
    env_failed
  fi
  rm -f -- "$1.started"
  trap - INT TERM HUP
  env_say "the $env_name environment is ready"
}

env_fill_uv() {
  env_run exec "$1" -m venv "$env_folder" || env_failed "install the package python3-venv, or uv itself"
  env_run exec "$env_folder/bin/python" -m pip install -r "$env_requirements" || env_failed
}

# env_fill BASE_PYTHON
env_fill() {
  local options=() places=() place
  IFS=$' \t\n' read -r -d '' -a places <<<"${PIP_FIND_LINKS-}" || true
  for place in "${places[@]}"; do options+=(--find-links "$place"); done
  if [[ $env_folder != "$ENV_ROOT/.venv" ]]; then
    # `torch==2.13.0` is met by a 2.13.0+cpu in a folder of wheels too, and that one counts as the higher
    # version. The torchvision and torchaudio of the index do not load beside it: `===` shuts it out.
    sed -n 's/^\(torch==\)/\1=/p' -- "$ENV_ROOT/$env_requirements" >"$env_log.exact" || env_failed
    options+=(--constraint "$env_log.exact")
  fi
  [[ -e $env_folder ]] || env_run env_uv venv --python "$1" -- "$env_folder" || env_failed
  env_run env_uv pip sync --python "$env_folder/bin/python" "${options[@]}" "$env_requirements" || env_failed
  [[ $env_folder != "$ENV_ROOT/.venv" ]] || env_add_package || env_failed
  env_run env_compile || true
}

# Imports what our programs import, and so has it compiled: several processes at once import it later, the first time
# too, and where PYTHONDONTWRITEBYTECODE is set, as in many images, each of them would compile it. That is one file of
# four; the others are compiled when somebody needs them.
env_compile() {
  local program="import $env_name" inside=$ENV_ROOT/agent_sft/engines/${ENV_ENGINES[$env_name]-}/inside
  unset PYTHONDONTWRITEBYTECODE
  if [[ $env_folder == "$ENV_ROOT/.venv" ]]; then
    program='
import importlib, pkgutil, agent_sft
for module in pkgutil.walk_packages(agent_sft.__path__, "agent_sft."):
    if ".inside" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)'
  elif [[ -f $inside/imported.py ]]; then
    program='
import runpy, sys
sys.path[0] = sys.argv[1]
runpy.run_path(sys.argv[1] + "/imported.py")["import_engine"]()'
  fi
  exec "$env_folder/bin/python" -c "$program" "$inside"
}

# Becomes uv, set up for the network as pip is.
env_uv() {
  local index=${UV_DEFAULT_INDEX-${UV_INDEX_URL-${PIP_INDEX_URL-}}}
  [[ -z $index ]] || export UV_DEFAULT_INDEX=$index
  [[ -n ${SSL_CERT_FILE-} || -z ${PIP_CERT-} ]] || export SSL_CERT_FILE=$PIP_CERT
  unset UV_SYSTEM_PYTHON UV_PYTHON VIRTUAL_ENV CONDA_PREFIX
  exec "$ENV_UV" "$@"
}

# Makes `import agent_sft` and the command `agent-sft` work. An editable installation would fetch a build
# tool for the same two files. Both are found relative to themselves, so any path to the clone works.
env_add_package() {
  local site=("$env_folder"/lib/python3*/site-packages)
  printf '../../../..\n' >"${site[0]}/agent_sft_clone.pth" &&
    cat >"$env_folder/bin/agent-sft" <<'SCRIPT' && chmod +x -- "$env_folder/bin/agent-sft"
#!/bin/sh
exec "$(dirname -- "$(readlink -f -- "$0")")/python" -P -m agent_sft "$@"
SCRIPT
}

# Runs a command that replaces its shell, with its output in the log; says now and then how it goes.
env_run() {
  local begun=$SECONDS next=$((SECONDS + 15)) status=0
  (cd -- "$ENV_ROOT" && "$@") >>"$env_log" 2>&1 </dev/null &
  ENV_CHILD=$!
  while kill -0 "$ENV_CHILD" 2>/dev/null; do
    sleep 0.1
    if ((SECONDS >= next)); then
      env_say "$((SECONDS - begun)) s: $(tail -n 1 -- "$env_log")"
      next=$((SECONDS + 15))
    fi
  done
  wait "$ENV_CHILD" || status=$?
  ENV_CHILD=
  return "$status"
}

env_end() {
  if [[ -n $ENV_CHILD ]]; then
    kill "$ENV_CHILD" 2>/dev/null || true
    wait "$ENV_CHILD" || true
  fi
  exit "$1"
}

# env_failed [FIX]: says why and ends.
env_failed() {
  local fix=${1-"run the same command again once that is mended"} free
  printf 'error: the %s environment could not be made; the end of %s:\n' "$env_name" "$env_log" >&2
  tail -n 20 -- "$env_log" 2>/dev/null | sed 's/^/  | /' >&2
  free=$(df --output=avail -k -- "${env_folder%/*}" | tail -n 1)
  if grep -qi 'no space left' -- "$env_log" || ((free < 1024)); then
    fix="no space left on the disk: free some, then run the same command again"
  fi
  printf '  %s\n' "$fix" >&2
  exit 1
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  if [[ ${1-} == --check ]]; then
    env_describe "${2-}"
    env_is_current
    exit
  fi
  for name in "$@"; do
    ensure_env "$name"
    printf '%s\n' "$ENV_PYTHON"
  done
fi
