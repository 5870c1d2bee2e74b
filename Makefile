# make demo   set up what is missing, then play 16 episodes on a really served model
# make rounds two rounds: play, train, swap, examine, on the bundled model; METHOD=full trains all weights
# make test   set up what is missing, then lint, types and tests; make test-slow: the slow ones
# make lock   compile the locks again (needs uv; TORCH_LINKS = a folder or page with the CPU build of torch)

METHOD ?= lora
LOCK := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
UV_COMPILE := uv pip compile --no-annotate --no-header --python-version 3.11

.PHONY: demo rounds test test-slow lint lock venv
venv:
	@requirements/install.sh $(LOCK)

demo: venv
	@.venv/bin/sandplay generate examples/demo.toml

rounds: venv
	@.venv/bin/sandplay rounds examples/rounds.toml training.method=$(METHOD)

lint: venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: lint
	.venv/bin/pytest -m "not slow and not gpu"

test-slow: venv
	.venv/bin/pytest -m "slow and not gpu"

lock:
	$(UV_COMPILE) requirements/cpu.in --override requirements/overrides.txt --find-links $(TORCH_LINKS) -o requirements/cpu.txt
	$(UV_COMPILE) requirements/gpu.in --override requirements/overrides-gpu.txt -o requirements/gpu.txt
