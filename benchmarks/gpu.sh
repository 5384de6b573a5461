#!/usr/bin/env bash
# All measurements on a GPU in one command and under 10 minutes: benchmarks/results/gpu.json and gpu_profile.txt.
# No network: BERT-base with random weights, rows of random words with GLUE's lengths. `--smoke` tries the script on any
# machine with a tiny model and writes nothing into the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=true
exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
