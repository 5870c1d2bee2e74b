#!/usr/bin/env bash
# Make or refresh .venv from the lock that fits this machine: requirements/install.sh [cpu|gpu]
# The locks hold names and versions only; pip's own configured sources are asked. The CPU build of torch is not on the
# public index: where the configured sources lack it, set SANDPLAY_TORCH_INDEX to PyTorch's CPU wheel index.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-cpu}
lock=requirements/$kind.txt
stamp=.venv/.sandplay-lock
want="$kind $(cat "$lock" pyproject.toml | sha256sum | cut -d' ' -f1)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Sandplay needs Python 3.11 or newer, $python is $("$python" -V 2>&1): set PYTHON=/path/to/python3.11" >&2
  exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv || {
  echo "could not make .venv: on Debian install the package python3-venv" >&2
  exit 2
}
echo "installing $(grep -c '==' "$lock") pinned packages into .venv (a few minutes, about 4 GB)"
extra=()
[ -z "${SANDPLAY_TORCH_INDEX:-}" ] || extra=(--extra-index-url "$SANDPLAY_TORCH_INDEX")
# deepspeed comes as source: its kernels are not built, training uses none of them.
DS_BUILD_OPS=0 .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "${extra[@]}" -r "$lock" || {
  echo "installing $lock failed; if torch ... +cpu was not found, set SANDPLAY_TORCH_INDEX to PyTorch's CPU wheel index" >&2
  exit 1
}
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
echo "$want" > "$stamp"
