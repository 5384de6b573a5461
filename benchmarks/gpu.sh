#!/usr/bin/env bash
# All that is to be measured on a GPU, in one command and under 10 minutes: benchmarks/results/gpu.json and gpu_profile.txt.
# No network: BERT-base with random weights, rows of random words as long as GLUE's. `--smoke` tries it on any machine
# with a tiny model and writes nothing into the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=true
exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
