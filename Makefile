# Every target does all the set-up that it needs, says what it does, and is quick when run again.

VENV := .venv
LOCK := dev
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
LIGHT := .venv-light/.installed
HUB := .venv-hub/.installed
MODELS := models/.laid-out
# What environments are made from. (Without a lock there is still torch's.)
PINS := pyproject.toml locks/torch.txt $(wildcard locks/$(LOCK).txt) scripts/set_up.sh scripts/install_torch.py

# What models are called for is in models/, under their hub ids, so no hub is asked. (make lab HF_HUB_OFFLINE=0 asks it.)
export HF_HOME := $(CURDIR)/models
export HF_HUB_OFFLINE := 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# The kernel is the one of the virtual environment, without what this user has added to kernels in general.
export JUPYTER_PREFER_ENV_PATH := 1
# (Where Python may not keep what it has compiled, every process that is started compiles everything anew.)
unexport JUPYTER_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE
alone = mkdir -p build && JUPYTER_CONFIG_DIR=$(CURDIR)/build/jupyter IPYTHONDIR=$(CURDIR)/build/ipython

.DEFAULT_GOAL := help
.PHONY: help demo lab labextension test test-all test-oldest test-pythons test-newest check parts unit system slow browser notebooks \
	coverage old-front-ends extension hub \
	frontend docs save-notebooks pictures models bench bench-edit bench-widget bench-jupyter bench-streams bench-shapes soak \
	bench-compare bench-peers lock dist clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(MODELS)  ## run the quickstart notebook and print its questions and answers
	@$(alone) $(PY) scripts/run_demo.py

lab: $(MODELS) labextension  ## open JupyterLab on the notebooks
	$(PY) -m jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

labextension: $(INSTALLED)  ## build the extension of JupyterLab and Notebook, where its sources have changed
	@scripts/build_labextension.sh $(VENV)

test: check frontend parts  ## check, frontend, and the tests but for slow ones: unit, system, browser, notebooks
	@echo "==> everything passed"

test-all:  ## every test, slow ones too, on a JupyterHub and in old front ends too, the coverage that they reach, and the wheel
	@rm -rf build/coverage
	@$(MAKE) --no-print-directory COVERAGE=1 test
	@$(MAKE) --no-print-directory $(HUB)
	@$(MAKE) --no-print-directory COVERAGE=1 slow coverage
	@$(MAKE) --no-print-directory old-front-ends
	@$(MAKE) --no-print-directory dist

# The longest parts, side by side where somebody waits for them.
parts: unit system
	@$(MAKE) --no-print-directory -j$(if $(CI),1,2) $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) browser notebooks

PARTS := parts
test-oldest:  ## the tests with the lowest versions that pyproject.toml admits (PARTS=unit: only those)
	@$(MAKE) --no-print-directory $(PARTS) VENV=.venv-oldest LOCK=oldest

test-pythons: $(INSTALLED)  ## the unit tests under every Python at hand (PYTHONS="3.12 /path/to/python": under these; others: all but the usual one)
	@MAKE="$(MAKE)" PY=$(PY) scripts/test_pythons.sh $(PYTHONS)

test-newest:  ## everything with the newest versions there are; goes on where a part fails, and says what is newer
	@PY=$(PY) scripts/test_newest.sh

lock: $(INSTALLED)  ## renew locks/ with the newest versions (KEEP=1: change only what pyproject.toml calls for)
	@scripts/lock.sh $(PY) $(if $(KEEP),--keep)

check: $(INSTALLED)  ## lint, format check, spelling and types
	@echo "==> ruff, codespell and mypy"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m codespell_lib
	@$(PY) -m mypy

frontend:  ## types, lint, format and tests of the JavaScript, where there is Node 20 (FIX=1: format it first)
	@scripts/check_frontend.sh $(if $(FIX),--fix)

# With COVERAGE=1 tests note what they run, in all their processes; `make coverage` sums it up.
pytest = $(PY) -m $(if $(COVERAGE),coverage run -m )pytest
# Tests with real processes. (Not the unit tests: those depend on nothing that could be late.)
system_pytest = scripts/second_try.sh $(pytest)

# Processes that run the unit tests side by side; 0: in this one, in which a debugger works.
WORKERS = $(shell n=$$(getconf _NPROCESSORS_ONLN) && echo $$((n > 8 ? 8 : n)))
unit: $(INSTALLED)  ## the quick tests: no services, kernels or models (WORKERS=0: in one process)
	@echo "==> unit tests"
	@$(pytest) -m "not system and not browser" -n $(WORKERS) --dist worksteal

# Two processes at most: each starts kernels, zygotes and models of its own. A file's tests stay together, as they share these.
PAIR = $(shell n=$$(getconf _NPROCESSORS_ONLN) && echo $$((n > 2 ? 2 : n)))
system: $(MODELS) $(LIGHT)  ## the tests with real processes, kernels and models
	@echo "==> system tests"
	@$(alone) $(system_pytest) -m "system and not slow" -n $(PAIR) --dist loadfile

slow: $(MODELS) $(LIGHT) labextension  ## what `make test` leaves out: system and browser tests, and notebooks
	@echo "==> slow tests"
	@$(alone) $(system_pytest) -m "slow and not browser" -n $(PAIR) --dist loadfile
	@scripts/install_browser.sh
	@$(alone) scripts/second_try.sh $(PY) -m pytest -m "slow and browser" -p no:randomly tests/browser
	@$(alone) $(PY) -m pytest -c notebooks/pytest.ini $(SLOW_NOTEBOOKS)

coverage: $(INSTALLED)  ## what tests have run that were started with COVERAGE=1; the report is in build/coverage/html/
	@echo "==> coverage"
	@$(PY) -W ignore -m coverage combine --append --quiet || true  # files of processes that were killed are left out
	@rm -f build/coverage/data.*
	@$(PY) -m coverage html --quiet --fail-under=0
	@$(PY) -m coverage report

browser: $(INSTALLED) labextension  ## JupyterLab and Notebook 7 in Chromium; pictures of them go to build/screenshots/
	@echo "==> browser tests"
	@scripts/install_browser.sh
	@$(alone) scripts/second_try.sh $(PY) -m pytest -m "browser and not slow" -p no:randomly tests/browser

# What shows in JupyterLab and Notebook by their own parts: the rest is in outputs, and the same in all of them.
EXTENSION := tests/browser/test_running.py tests/browser/test_hub.py tests/browser/test_completion.py
old-front-ends:  ## the extension in the lowest versions that pyproject.toml admits: JupyterLab 4.3 and Notebook 7.3
	@$(MAKE) --no-print-directory extension VENV=.venv-oldest LOCK=oldest

extension: $(INSTALLED) labextension  ## the browser tests of the extension of JupyterLab and Notebook alone
	@echo "==> the extension in $$($(PY) -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("jupyterlab", "notebook")), sep=", ")')"
	@scripts/install_browser.sh
	@$(alone) $(PY) -m pytest -m browser -p no:randomly $(EXTENSION)

hub: $(INSTALLED) $(HUB) labextension  ## the tests on a real JupyterHub behind its proxy (in `make slow` too, once it is there)
	@scripts/install_browser.sh
	@$(alone) $(PY) -m pytest -m browser -p no:randomly tests/browser/test_jupyterhub.py

SLOW_NOTEBOOKS := $(addprefix notebooks/,inference_graph.ipynb several_models.ipynb streams.ipynb llms.ipynb)
notebooks: $(MODELS)  ## run the notebooks, but for slow ones, and compare their outputs with the saved ones
	@echo "==> notebooks"
	@$(alone) $(PY) -m pytest -c notebooks/pytest.ini $(filter-out $(SLOW_NOTEBOOKS),$(wildcard notebooks/*.ipynb))

save-notebooks: $(MODELS)  ## run every notebook and save it with its outputs
	@$(alone) $(PY) scripts/save_notebooks.py

pictures: $(MODELS)  ## take the README's picture of the quickstart notebook again
	@$(alone) $(PY) scripts/take_pictures.py

docs: $(INSTALLED)  ## build the documentation site into build/docs/html; a warning is an error
	@echo "==> the documentation"
	@$(PY) -m sphinx -b html -W --keep-going -n -q -d build/docs/trees docs build/docs/html
	@echo "==> open build/docs/html/index.html"

models: $(MODELS)  ## lay out the models in models/, a Hugging Face cache
	@echo "==> the models are in models/; to use them elsewhere: HF_HOME=$(HF_HOME) HF_HUB_OFFLINE=1"

bench: $(MODELS)  ## measure, and print the table (with the peers' columns after make bench-peers)
	@$(PY) -m benchmarks

bench-edit: $(MODELS)  ## measure what an edit takes, and the calls that it fails (beside BentoML after make bench-peers)
	@$(PY) -m benchmarks.edit_loop

bench-widget: $(INSTALLED)  ## measure what the live graph costs, and how quick it is, in a real browser
	@$(PY) -m benchmarks.widget

bench-streams: $(INSTALLED)  ## measure what a stream costs that is the argument of a call
	@$(PY) -m benchmarks.streams

bench-jupyter: $(INSTALLED) labextension  ## measure what a call through Jupyter's server takes, and what its extensions cost
	@$(alone) $(PY) -m benchmarks.jupyter

bench-shapes: $(INSTALLED)  ## measure what graphs of 10, 50 and 200 services cost: start, idle, an edit, stop
	@$(PY) -m benchmarks.shapes

soak: $(MODELS)  ## a notebook's graph under load for half an hour, among kills, edits and floods (MINUTES=5 SEED=2)
	@$(alone) $(PY) -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

bench-compare: $(INSTALLED)  ## whether the working tree is slower than BASE=main, or another revision (ROWS="hop http", ROUNDS=15)
	@$(alone) $(PY) -m benchmarks.revisions $(or $(BASE),$(error BASE is missing: make bench-compare BASE=main)) \
		$(ROWS) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-peers: $(MODELS)  ## install BentoML and Ray Serve, each in a virtual environment of its own
	@benchmarks/make_peers.sh

dist: $(INSTALLED) labextension  ## build the sdist and the wheel into dist/, and have the wheel serve from an environment of its own
	@rm -rf dist .venv-dist && $(PY) -m uv build --quiet --no-build-isolation --python $(PY)
	@PYTHON=$(PY) scripts/set_up.sh .venv-dist core && scripts/try_wheel.sh .venv-dist

clean:  ## remove everything that git ignores and these targets made
	rm -rf .venv .venv-* build dist models frontend/node_modules labextension/node_modules \
		nbcompose/_jupyter/labextension docs/notebooks .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): $(PINS)
	@scripts/set_up.sh $(VENV) $(LOCK)
	@touch $@

# nbcompose alone, as an exported script has it: no Jupyter, no torch.
$(LIGHT): pyproject.toml locks/core.txt scripts/set_up.sh $(INSTALLED)
	@rm -rf .venv-light && PYTHON=$(PY) scripts/set_up.sh .venv-light core
	@touch $@

# A JupyterHub, its proxy, which runs on Node, and what its users have.
$(HUB): pyproject.toml locks/hub.txt scripts/set_up.sh scripts/install_hub_proxy.sh tests/browser/hub/package-lock.json $(INSTALLED)
	@rm -rf .venv-hub && PYTHON=$(PY) scripts/set_up.sh .venv-hub hub
	@touch $@

$(MODELS): $(INSTALLED) scripts/lay_out_models.py scripts/hub_cache.py scripts/real_models.py scripts/stand_ins.py
	@echo "==> laying out the models in models/"
	@$(PY) scripts/lay_out_models.py
	@touch $@
