#!/usr/bin/env bash
# Judges on some nodes, a reward server beside the first of them, training on the others:
#   sbatch --nodes=4 reward_servers/deploy/slurm.sh recipes/autorule.yaml
# Two nodes judge (JUDGE_NODES), the other two train. Both environments are on a disk that all nodes see.
#SBATCH --job-name=rlrules
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=runs/slurm-%j.log
# Only this shell hears that time is up, and tells the trainers alone: the step that they are at still needs its judges.
#SBATCH --signal=B:TERM@900
set -euo pipefail
recipe=${1:?name a recipe}
judge_nodes=${JUDGE_NODES:-2}
model=${JUDGE_MODEL:-meta-llama/Meta-Llama-3-8B-Instruct}
profile=${PROFILE:-reward_servers/autorule.yaml}
gpus=${SLURM_GPUS_ON_NODE:-8}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
if ((${#nodes[@]} <= judge_nodes)); then
    echo "JUDGE_NODES=$judge_nodes leaves none of ${#nodes[@]} nodes to train; ask for more --nodes" >&2
    exit 2
fi
judges=("${nodes[@]:0:judge_nodes}")
trainers=("${nodes[@]:judge_nodes}")
listed() { (IFS=,; echo "$*"); }
urls=$(printf ',http://%s:8000/v1' "${judges[@]}")
urls="[${urls:1}]"
# Nothing but this job's nodes is to reach the reward server, and a port is open to all.
RLRULES_TOKEN=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')
export RLRULES_TOKEN

# One vLLM a node: its GPUs hold copies of a model that fits one of them.
srun --overlap --nodes="$judge_nodes" --ntasks="$judge_nodes" --nodelist="$(listed "${judges[@]}")" \
    .venv-serve/bin/python -m vllm.entrypoints.openai.api_server --model "$model" --host 0.0.0.0 --port 8000 \
    --enable-prefix-caching --data-parallel-size "$gpus" &
srun --overlap --nodes=1 --ntasks=1 --nodelist="${judges[0]}" --gpus=0 \
    .venv/bin/rlrules serve "$profile" server.host=0.0.0.0 server.port=8080 server.token_env=RLRULES_TOKEN \
    "judges.verifier.urls=$urls" &

# All that runs beside the trainer ends with it, however it ends.
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
for _ in $(seq 180); do
    curl -fsS --max-time 15 "http://${judges[0]}:8080/ready" && break
    sleep 10
done
curl -fsS --max-time 15 "http://${judges[0]}:8080/ready" || { echo "the reward server is not ready" >&2; exit 1; }

export TRAINERS=${#trainers[@]} GPUS=$gpus MAIN=${trainers[0]} REWARDS="http://${judges[0]}:8080" RECIPE=$recipe
# The ranks save and end; a launcher that heard the signal would kill them half a minute later.
export PET_SIGNALS_TO_HANDLE=SIGINT,SIGHUP,SIGQUIT
# AutoRule's own rewards give way to the server's; another recipe's have other names.
srun --nodes="${#trainers[@]}" --ntasks="${#trainers[@]}" --nodelist="$(listed "${trainers[@]}")" bash -c '
    trap "" TERM
    exec .venv/bin/accelerate launch --config_file recipes/accelerate/zero3.yaml \
        --num_machines "$TRAINERS" --num_processes $((TRAINERS * GPUS)) --machine_rank "$SLURM_PROCID" \
        --main_process_ip "$MAIN" --main_process_port 29500 scripts/train.py "$RECIPE" --resume auto \
        "rewards={rules: null, preference: null, served: {type: remote, urls: [$REWARDS], api_key_env: RLRULES_TOKEN}}" \
        "objective.weights={rules: null, preference: null, served: 1}"
' &
trainer=$! status=0
trap 'kill -TERM "$trainer"' TERM
# A signal ends a wait before the trainer has ended.
until wait "$trainer" && status=0 || { status=$?; ! kill -0 "$trainer" 2>/dev/null; }; do :; done
exit "$status"
