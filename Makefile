# make repro, make test, make lint: each prepares its own environment in .venv and works without the others.
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test test-slow lint env

repro: env
	dvc repro

test: env lint
	python -m pytest -m "not slow" $(PYTEST)

test-slow: env
	python -m pytest -m slow $(PYTEST)

lint: env
	ruff check .
	ruff format --check .

env: .venv/ready

# The stamp is written last: an installation that broke off is taken up again.
.venv/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
