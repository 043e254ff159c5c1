# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= train,dev
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint clean

demo: $(INSTALLED)
	$(BIN)/gan-denoise demo --out demo-out

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .

# pesq is built from source: without a C compiler everything but PESQ still works.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]" pystoi
	@$(BIN)/python -m pip install --quiet pesq >$(VENV)/pesq.log 2>&1 || \
		echo "pesq could not be built (no C compiler?): PESQ is left out; see $(VENV)/pesq.log"
	@touch $@

clean:
	rm -rf $(VENV) demo-out build dist *.egg-info
