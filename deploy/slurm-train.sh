#!/usr/bin/env bash
# Trains one model on several nodes of SLURM: one process a node.
#
#   sbatch deploy/slurm-train.sh RUN --config pretrain data.speech=/data/speech data.noise=/data/noise
#   sbatch --nodes=8 deploy/slurm-train.sh RUN ...
#
# RUN lies on a file system that all nodes share; worker 0 writes it. What follows it goes to
# `pretrain`. When a worker dies all of them end; the same command, with as many nodes or fewer,
# goes on from the last checkpoint.
#SBATCH --job-name=gan-denoise-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --output=train-%j.log
set -euo pipefail

run=${1:?usage: sbatch slurm-train.sh RUN [OPTION ...]}
shift

# A port of this job's own, as nodes may be shared.
port=$((20000 + SLURM_JOB_ID % 20000))
workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export WORKERS="$workers"

# shellcheck disable=SC2016 # each process takes its own number
srun --kill-on-bad-exit=1 bash -euc '
  task="{\"type\": \"worker\", \"index\": $SLURM_PROCID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": $task}"
  exec "$@"
' bash gan-denoise pretrain --run "$run" training.strategy=multi_worker "$@"
