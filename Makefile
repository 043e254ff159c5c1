# Two commands do everything, set-up included: `make demo` and `make test`.
# make demo OUT=another-folder SETTINGS="training.seed=1 training.steps=1600"
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= train,dev
INSTALLED := $(VENV)/.installed
OUT ?= demo-out
SETTINGS ?=

.PHONY: demo picture test test-system lint docs coverage mutation torture-audio torture-inputs torture-faults soak clean

demo: $(INSTALLED)
	@$(BIN)/gan-denoise demo --out $(OUT) $(SETTINGS)

# README's first picture: the real recording that the demo ends with.
picture: demo
	cp $(OUT)/spectrograms.png docs/spectrograms.png

PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) -m "not system"

# Whole jobs, several processes, clusters, browsers, packaging: as long again.
test-system: $(INSTALLED)
	$(PYTEST) -m system

# Lines that the quick tests run, and those that they do not: build/coverage/html/index.html.
coverage: $(INSTALLED)
	@mkdir -p build/coverage
	$(PYTEST) -m "not system" --cov --cov-report=term --cov-report=html

# Small faults put into metrics, mixing, inversion, journal and losses: which ones do tests notice?
mutation: $(INSTALLED)
	@$(BIN)/python scripts/mutate.py --out build/mutation

lint: $(INSTALLED)
	$(BIN)/ruff check .

# A warning is an error. The pages open from the disk: build/docs/index.html.
docs: $(INSTALLED)
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

# Some 215 audio files of 68 sorts, cleaned and compared: needs ffmpeg, sox, lame, flac on the PATH.
torture-audio: $(INSTALLED)
	@$(BIN)/python scripts/torture_audio.py --out build/torture-audio

# 150 odd and hostile recordings: bounded memory and time, an error in words, nothing half-written.
torture-inputs: $(INSTALLED)
	@$(BIN)/python scripts/torture_inputs.py --out build/torture-inputs

# Kills, signals, full disks, failing system calls, damaged files: see docs/reliability.md. Root's
# rights for the full disks, a C compiler for the failing calls.
torture-faults: $(INSTALLED)
	@$(BIN)/python scripts/torture_faults.py --out build/torture-faults

# Three hours of training and one of fine-tuning, 20,000 files, 1,000 requests: memory, handles,
# threads, temporary files and speed have to stay as they are. Linux.
soak: $(INSTALLED)
	@$(BIN)/python scripts/soak.py files
	@$(BIN)/python scripts/soak.py page
	@$(BIN)/python scripts/soak.py train
	@$(BIN)/python scripts/soak.py finetune

# Of pip only errors are shown (-q -q): its warnings are about how this machine is set up.
# pesq is built from source: without a C compiler everything but PESQ still works.
$(INSTALLED): pyproject.toml
	@echo "installing into $(VENV): once, a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -q --editable ".[$(EXTRAS)]" pystoi
	@$(BIN)/python -m pip install -q -q pesq >$(VENV)/pesq.log 2>&1 || \
		echo "pesq could not be built (no C compiler?): PESQ is left out; see $(VENV)/pesq.log"
	@touch $@

clean:
	rm -rf $(VENV) demo-out build dist *.egg-info
