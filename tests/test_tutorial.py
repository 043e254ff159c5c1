"""The tutorial notebook runs from its first cell to its last, and says what it promises."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
SMALL = """
import tensorflow
tensorflow.config.run_functions_eagerly(True)  # so few steps are done before a graph is traced
SPEECH_MINUTES, TEST_CLIPS = 0.5, 2
FINETUNING = ["discriminator.channels=[4, 8]", "data.valid_clips=2", "data.valid_seconds=1.0",
              "losses.discriminator_warmup=1", "losses.adversarial_ramp=1", "training.steps=6",
              "training.batch_size=2", "training.crop_seconds=0.5", "training.warmup_steps=1",
              "training.validate_every=3"]
PRETRAINING = [*FINETUNING, "generator.channels=[4, 8]", "generator.width=16", "generator.blocks=2"]
"""


@pytest.fixture(scope="module")
def notebook():
    """The notebook as it is in the repository."""
    return nbformat.read(NOTEBOOK, as_version=4)


def cell_of(notebook, name):
    """The cell of an id."""
    return next(cell for cell in notebook.cells if cell.id == name)


def test_it_holds_no_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    nbformat.validate(notebook)


def test_a_small_version_trains_listens_and_compares(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    parameters = next(cell for cell in notebook.cells
                      if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = SMALL
    NotebookClient(notebook, timeout=300, kernel_name="python3",
                   resources={"metadata": {"path": str(tmp_path)}}).execute()

    def printed(name):
        return "".join(output.get("text", "") for output in cell_of(notebook, name).outputs)

    def shown(name):
        return [kind for output in cell_of(notebook, name).outputs
                for kind in output.get("data", ())]

    for name in ("hear_noisy", "hear_shipped", "make_material"):
        assert "text/html" in shown(name)  # a player
    assert "image/png" in shown("pretrain")
    assert "image/png" in shown("see")
    assert shown("hear").count("text/html") == 4
    for name in ("evaluate", "compare"):
        rows = {line.split()[0]: line.split()[1:] for line in printed(name).splitlines()[1:]}
        assert {"noisy", "mine", "shipped"} <= rows.keys()
    assert float(rows["shipped"][-1]) > float(rows["noisy"][-1]) + 4  # SI-SDR, real recording
