#!/usr/bin/env bash
# From a data file to a trained model: process, prepare, train. What is done already is skipped.
#
#   bash run_sft.sh data.json                                       Qwen2.5-7B-Instruct, 2 epochs
#   bash run_sft.sh data.json --skip-process --model tiny --epochs 1   a tiny model, without a GPU
#   bash run_sft.sh a.json 'logs/*.jsonl' --trajectory-dataset run.eval   several inputs
#   bash run_sft.sh --help                                          all options
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/env.sh
source "$here/scripts/env.sh"

# The environment of LLaMA-Factory and DeepSpeed is made later, when it turns out to be needed.
ensure_env core

# -P: a file called like a module of ours, in the folder one happens to be in, is not imported.
exec "$ENV_PYTHON" -P -m agent_sft sft "$@"
