#!/usr/bin/env bash
# Variants trained, served, scored and compared, in one command. What is done already is skipped.
#
#   bash run_eval_sweep.sh configs/sweeps/quickstart.yaml             a tiny model, without a GPU
#   bash run_eval_sweep.sh configs/sweeps/quickstart.yaml --dry-run   all that it would do, and why
#   bash run_eval_sweep.sh --data 'data/syc_*pct.json' --domain telecom --tau2-dir ~/tau2-bench --trials 4
#   bash run_eval_sweep.sh --help                                     all options
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/env.sh
source "$here/scripts/env.sh"

# The environments of the engines are made later, when they turn out to be needed.
ensure_env core

# -P: a file called like a module of ours, in the folder one happens to be in, is not imported.
exec "$ENV_PYTHON" -P -m agent_sft sweep run "$@"
