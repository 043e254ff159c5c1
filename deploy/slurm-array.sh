#!/usr/bin/env bash
# Denoises a folder by a SLURM job array: each task does one of as many equal shares of the files.
#
#   sbatch deploy/slurm-array.sh NOISY CLEAN
#   sbatch --array=1-40 deploy/slurm-array.sh NOISY CLEAN --preset podcast
#
# NOISY and CLEAN lie on a file system that all nodes share. What follows them goes to `denoise`.
# The same command again does only what is missing; a task whose node died is queued again.
#SBATCH --job-name=gan-denoise
#SBATCH --array=1-100
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --output=denoise-%A-%a.log
set -euo pipefail

noisy=${1:?usage: sbatch slurm-array.sh NOISY CLEAN [OPTION ...]}
clean=${2:?usage: sbatch slurm-array.sh NOISY CLEAN [OPTION ...]}
shift 2

# Shares are counted from 1, and the array with them. --array=7 alone does share 7 of the whole
# array's count again: sbatch --array=7 --export=ALL,SHARES=100 ...
gan-denoise denoise "$noisy" -o "$clean" \
  --shard "$SLURM_ARRAY_TASK_ID/${SHARES:-$SLURM_ARRAY_TASK_MAX}" \
  --jobs "$SLURM_CPUS_PER_TASK" --threads "$SLURM_CPUS_PER_TASK" "$@"
