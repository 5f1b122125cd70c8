# make install | train | test | test-fast | check
PYTHON ?= python3
# Which server: vLLM itself where there is a GPU, its CPU build elsewhere.
SERVE ?= $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu)
PIP = -m pip install --quiet --disable-pip-version-check
TORCH = torch==2.13.0

.PHONY: install train test test-fast check

install: .venv/.installed .venv-serve/.installed-$(SERVE)

.venv/.installed: requirements/train.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) --no-deps -r requirements/train.lock
	.venv/bin/python $(PIP) $(TORCH)
	.venv/bin/python $(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv-serve/.installed-cpu: requirements/serve-cpu.lock
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/python $(PIP) --no-deps -r requirements/serve-cpu.lock
	.venv-serve/bin/python $(PIP) $(TORCH)
	touch $@

.venv-serve/.installed-gpu: requirements/serve-gpu.txt
	$(PYTHON) -m venv .venv-serve
	.venv-serve/bin/python $(PIP) -r requirements/serve-gpu.txt
	touch $@

# The main job: a judge on vLLM, GRPO against it, a report. ARGS="training.max_steps=20" overrides.
train: install
	.venv/bin/python scripts/quickstart.py $(ARGS)

test: install test-fast
	.venv/bin/python -m pytest -m e2e -n 2 --dist loadscope

test-fast: .venv/.installed
	.venv/bin/python -m pytest -m "not e2e" -n 2

check: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
