#!/usr/bin/env bash
# A recipe on the nodes of one job, all GPUs of each:
#   sbatch --nodes=2 recipes/accelerate/slurm.sh recipes/autorule.yaml [training.learning_rate=1e-6 …]
# CONFIG names another file of recipes/accelerate (default: multi_node). From the repository's root, which all nodes see.
# Where judges and a reward server belong to the job: reward_servers/deploy/slurm.sh.
#SBATCH --job-name=rlrules
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=runs/slurm-%j.log
#SBATCH --open-mode=append
# The ranks save after the step they are at, which may take minutes; the job that was put back then goes on from there.
#SBATCH --signal=TERM@900
#SBATCH --requeue
set -euo pipefail
: "${1:?name a recipe}"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export NODES=${#nodes[@]} GPUS=${SLURM_GPUS_ON_NODE:-8} CONFIG=${CONFIG:-multi_node}
export MAIN_HOST=${nodes[0]} MAIN_PORT=$((29500 + SLURM_JOB_ID % 1000))

# Slurm tells all processes that time is up. The launcher must not hear it: it would kill its ranks half a minute later.
export PET_SIGNALS_TO_HANDLE=SIGINT,SIGHUP,SIGQUIT
srun --nodes="$NODES" --ntasks="$NODES" bash -c '
    trap "" TERM
    exec .venv/bin/accelerate launch --config_file "recipes/accelerate/$CONFIG.yaml" \
        --num_machines "$NODES" --num_processes $((NODES * GPUS)) --machine_rank "$SLURM_PROCID" \
        --main_process_ip "$MAIN_HOST" --main_process_port "$MAIN_PORT" scripts/train.py "$@" --resume auto
' bash "$@"
