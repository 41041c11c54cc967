# Every target does all the set-up that it needs, says what it does, and is quick when run again.

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
LIGHT := .venv-light/.installed
MODELS := models/.laid-out

# What models are called for is in models/, under their hub ids, so no hub is asked. (make lab HF_HUB_OFFLINE=0 asks it.)
export HF_HOME := $(CURDIR)/models
export HF_HUB_OFFLINE := 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# The kernel is the one of the virtual environment, without what this user has added to kernels in general.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV
alone = mkdir -p build && JUPYTER_CONFIG_DIR=$(CURDIR)/build/jupyter IPYTHONDIR=$(CURDIR)/build/ipython

.DEFAULT_GOAL := help
.PHONY: help demo lab test check unit system browser notebooks save-notebooks pictures models bench bench-edit \
	bench-widget bench-peers clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(MODELS)  ## run the quickstart notebook and print its questions and answers
	@$(alone) $(PY) scripts/run_demo.py

lab: $(MODELS)  ## open JupyterLab on the notebooks
	$(PY) -m jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

test: check unit system  ## check, and every test: unit, system, browser, notebooks
	@$(MAKE) --no-print-directory -j$(if $(CI),1,2) $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) browser notebooks
	@echo "==> everything passed"

check: $(INSTALLED)  ## lint, format check and types
	@echo "==> ruff and mypy"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

unit: $(INSTALLED)  ## the quick tests: no processes, kernels or models
	@echo "==> unit tests"
	@$(PY) -m pytest -m "not system and not browser"

system: $(MODELS) $(LIGHT)  ## the tests with real processes, kernels and models
	@echo "==> system tests"
	@$(alone) $(PY) -m pytest -m system

browser: $(INSTALLED)  ## JupyterLab and Notebook 7 in Chromium; pictures of them go to build/screenshots/
	@echo "==> browser tests"
	@scripts/install_browser.sh
	@$(alone) $(PY) -m pytest -m browser -p no:randomly tests/browser

notebooks: $(MODELS)  ## run every notebook and compare its outputs with the saved ones
	@echo "==> notebooks"
	@$(alone) $(PY) -m pytest -c notebooks/pytest.ini notebooks

save-notebooks: $(MODELS)  ## run every notebook and save it with its outputs
	@$(alone) $(PY) scripts/save_notebooks.py

pictures: $(MODELS)  ## take the README's picture of the quickstart notebook again
	@$(alone) $(PY) scripts/take_pictures.py

models: $(MODELS)  ## lay out the models in models/, a Hugging Face cache
	@echo "==> the models are in models/; to use them elsewhere: HF_HOME=$(HF_HOME) HF_HUB_OFFLINE=1"

bench: $(MODELS)  ## measure, and print the table (with the peers' columns after make bench-peers)
	@$(PY) -m benchmarks

bench-edit: $(MODELS)  ## measure what an edit takes, and the calls that it fails (beside BentoML after make bench-peers)
	@$(PY) -m benchmarks.edit_loop

bench-widget: $(INSTALLED)  ## measure what the live graph costs, and how quick it is, in a real browser
	@$(PY) -m benchmarks.widget

bench-peers: $(MODELS)  ## install BentoML and Ray Serve, each in a virtual environment of its own
	@benchmarks/make_peers.sh

clean:  ## remove everything that git ignores and these targets made
	rm -rf $(VENV) .venv-light .venv-bentoml .venv-ray build dist models .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt scripts/set_up.sh
	@scripts/set_up.sh $(VENV)
	@touch $@

# nbcompose alone, as an exported script has it: no Jupyter, no torch.
$(LIGHT): pyproject.toml constraints.txt $(INSTALLED)
	@echo "==> installing nbcompose without its extras into .venv-light"
	@$(PY) -m venv --clear .venv-light
	@.venv-light/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable .
	@touch $@

$(MODELS): $(INSTALLED) scripts/lay_out_models.py scripts/hub_cache.py scripts/real_models.py scripts/stand_ins.py
	@echo "==> laying out the models in models/"
	@$(PY) scripts/lay_out_models.py
	@touch $@
