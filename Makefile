# make repro, make test, make push …: each prepares its own environment in .venv and works without the others.
# make compare A=main B=some-experiment: two runs side by side, in compare/index.html.
# make verify: the committed run again, from nothing, against the committed numbers.
PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro push pull test test-slow lint compare verify env

repro: env
	dvc repro

push: env
	python share.py push

pull: env
	python share.py pull

# Two files at a time, as most tests wait for a process that starts; in their order, as the longest files have few tests
# and would come last. Slow ones want the machine for themselves.
test: env lint
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(PYTEST)

test-slow: env
	python -m pytest -m slow $(PYTEST)

lint: env
	ruff check .
	ruff format --check .

compare: env
	python -m scenescope.compare $(A) $(B)

verify: env
	python -m scenescope.verify

env: .venv/ready

# The stamp is written last: an installation that broke off is taken up again.
.venv/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
