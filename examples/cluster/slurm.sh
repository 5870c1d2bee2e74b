#!/bin/bash
# NOT RUN on a Slurm cluster by this project: its flow is tested with stand-ins for Slurm's commands, nothing more.
#
# One run on several nodes: a Ray behind a token over all nodes of the job, `sandplay` on the first. Two minutes before
# the time limit, and when the job is preempted, the run stops cleanly and the job is queued again; it then resumes.
#   CONFIG=cluster.toml RUN=/shared/runs/first sbatch examples/cluster/slurm.sh
#SBATCH --job-name=sandplay
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sandplay-%j.log
set -euo pipefail
umask 077

: "${CONFIG:?the configuration to play, for example cluster.toml}"
: "${RUN:?the run directory: where the first node of the next job finds it too (docs/cluster.md says on what it may lie)}"
VENV=${VENV:-$PWD/.venv} # the same path on every node, and so are the checkout and the model directories
TOKENS=${TOKENS:-$HOME}  # a directory that every node sees

# The token: whoever has it runs code as you on these nodes. In a file, never on a command line, which others can read.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=$TOKENS/.ray-token-$SLURM_JOB_ID
"$VENV/bin/python" -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH"
steps=()
finish() {
    ((${#steps[@]} == 0)) || kill "${steps[@]}" 2>/dev/null || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
ip=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address)
ip=${ip%% *} # with several networks, name the address of the one that joins the nodes
port=$((20000 + SLURM_JOB_ID % 10000)) # outside of Ray's own worker ports, 10002 to 19999
start=(--disable-usage-stats --temp-dir "/tmp/ray-$SLURM_JOB_ID" --block)

# `--block` ties each Ray to its step: it ends with the job. `ray stop` would end other jobs' Rays on the node too.
srun --overlap --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" \
    "$VENV/bin/ray" start --head --node-ip-address="$ip" --port="$port" --include-dashboard=false "${start[@]}" &
steps+=($!)
if ((${#nodes[@]} > 1)); then
    srun --overlap --nodes=$((${#nodes[@]} - 1)) --ntasks-per-node=1 --exclude="${nodes[0]}" \
        "$VENV/bin/ray" start --address="$ip:$port" "${start[@]}" &
    steps+=($!)
fi

# Sandplay refuses what has no room when it starts: wait until all nodes are there.
timeout 600 bash -c "until : 2>/dev/null </dev/tcp/$ip/$port; do sleep 1; done"
timeout 600 "$VENV/bin/python" -W ignore -c '
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(2)
' "$ip:$port" "${#nodes[@]}"

if [[ -f $RUN/config.toml ]]; then
    "$VENV/bin/sandplay" resume "$RUN" ray.address="$ip:$port" &
else
    "$VENV/bin/sandplay" generate "$CONFIG" ray.address="$ip:$port" --out "$RUN" &
fi
driver=$!
stopped=
trap 'stopped=yes; kill -TERM "$driver" 2>/dev/null || true' TERM

# A trapped signal ends `wait` early: wait again until the driver has really ended.
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do
    code=0
    wait "$driver" || code=$?
done
if [[ $stopped ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
