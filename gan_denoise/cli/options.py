"""Options of the command line as annotated types, checks before a verb begins, usage errors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gan_denoise.config.registry import KINDS
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.inference.options import PRESETS, DenoiseOptions

if TYPE_CHECKING:
    from gan_denoise.core.ray_jobs import Cluster
    from gan_denoise.inference.enhancer import Enhancer

FAILED, USAGE = 1, 2  # exit codes
CHANNELS = DenoiseOptions.model_fields["channels"].annotation
FORMATS = DenoiseOptions.model_fields["format"].annotation
TRAINING = ("tensorflow", "librosa", "sklearn", "tensorboard", "onnx", "matplotlib")


class UsageError(GanDenoiseError):
    """Options that do not fit each other, a value that cannot be, or packages that are missing."""


SHIPPED_MODELS = "calm (default), calm-fast, hush"


# ---- Options of several verbs ------------------------------------------------------------------
Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings: section.key=value.", show_default=False)
]
ConfigFile = Annotated[
    str, typer.Option("--config", "-c", help="YAML file, or the name of a shipped config.")
]
RunDir = Annotated[
    Path, typer.Option("--run", help="Run directory; a run that is there is resumed.")
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help=f"Model folder, or a shipped model: {SHIPPED_MODELS}.",
                 show_default=False),
]
InversionName = Annotated[
    str | None,  # a model's plugins may bring others
    typer.Option(metavar="|".join(KINDS["inversion"].classes), show_default=False,
                 help="From mel to waveform; the model's own if not given."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the results here too, as JSON.",
                 show_default=False),
]

# ---- Options of denoise ------------------------------------------------------------------------
Inputs = Annotated[
    list[Path],
    typer.Argument(help="Files and folders, or addresses (s3://bucket/folder); - for WAV on "
                        "standard input."),
]
DenoisedOut = Annotated[
    Path,
    typer.Option("--out", "-o", "--output-dir", "--out-dir",
                 help="Folder or address for the denoised files; for one file also the name of "
                      "the new one (clean.wav); - for standard output."),
]
PresetName = Annotated[
    Literal[tuple(PRESETS)] | None,
    typer.Option(help="Settings for a purpose: asr, light, before a recogniser; podcast, all noise "
                      "but some room; archive, careful. Options given beside it win.",
                 show_default=False),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="How much of the noise goes, 1: all.", show_default=False),
]
AttenuationLimit = Annotated[
    float | None,
    typer.Option(metavar="DB", help="Cut no band by more than this.", show_default=False),
]
ChannelMode = Annotated[
    CHANNELS | None,
    typer.Option(help="keep (the default) denoises each by itself; link gives all one gain, so "
                      "that the stereo image stays; mono writes their mean.", show_default=False),
]
OutputFormat = Annotated[
    FORMATS | None,
    typer.Option(help="Container of the outputs; keep (the default): that of each input.",
                 show_default=False),
]
BitRate = Annotated[
    str | None,
    typer.Option(metavar="KBIT", show_default=False,
                 help="Bit rate of lossy outputs in kbit/s (128 or 128k); about that of the input "
                      "if not given."),
]
PreserveTimes = Annotated[
    bool, typer.Option("--preserve-times", help="Keep the files' times of modification.")
]
PeakGuard = Annotated[
    bool | None,
    typer.Option("--peak-guard/--no-peak-guard", show_default=False,
                 help="Turn down, as a whole, a file that would clip."),
]
ResidualFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder for what was removed.", show_default=False),
]
Recursive = Annotated[bool, typer.Option(help="Look into sub-folders.")]
SkipExisting = Annotated[
    bool,
    typer.Option("--skip-existing/--overwrite",
                 help="Skip what an earlier run did from the same input, model and settings; or do "
                      "everything again, and replace any file in the way."),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", metavar="N", min=0, show_default=False,
                 help="Processes; 0 (the default): one per thread where there is enough to do."),
]
Threads = Annotated[
    int,
    typer.Option(metavar="N", min=0, show_default=False,
                 help="Threads of all processes together; 0 (the default): one per core."),
]
ChunkSeconds = Annotated[
    float | None,
    typer.Option(metavar="S", min=1, show_default=False,
                 help="Audio of a file that is under way at once, about (45); more keeps more "
                      "threads busy and takes more memory."),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", show_default=False,
                 help="Do the I-th of N shares, counted from 1: machines share the work."),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", show_default=False,
                 help="Do it on a Ray cluster that sees the same folders: local starts Ray here; "
                      "auto, HOST:6379, ray://HOST:10001."),
]
Workers = Annotated[
    int,
    typer.Option(metavar="N", min=0, show_default=False,
                 help="Workers on the cluster, of one CPU each; 0 (the default): as many as it "
                      "has CPUs."),
]
TrainingWorkers = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, show_default=False,
                 help="Workers that train together on the cluster, of training.threads CPUs each "
                      "(1 where that is 0)."),
]
ReportFiles = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", show_default=False,
                 help="Write a row for each file (.csv or .json), or a page to see and hear what "
                      "was done (.html); may be given several times."),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="End with the first file that fails.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list what would be done.")]


# ---- Before a verb begins ----------------------------------------------------------------------
def require_training(verb: str) -> None:
    """Check that the packages of the `train` extra are installed, see `require`."""
    require(verb, *TRAINING)


def require(verb: str, *packages: str, extra: str = "train") -> None:
    """Check that packages which a verb needs are installed.

    Raises:
        UsageError: When one is missing; says which, and how to install it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    line = f"{verb} needs {', '.join(missing)}: pip install 'gan-denoise[{extra}]'"
    if extra == "train":
        line += ", or 'gan-denoise[train-gpu]' on Linux with an NVIDIA GPU"
    raise UsageError(line)


def cluster_of(verb: str, ray: str | None, workers: int, local: object = None) -> Cluster | None:
    """Return the cluster that --ray and --workers name; None where the work is done here.

    Args:
        verb: Who asks.
        ray: Its address.
        workers: How many jobs it does at once.
        local: What --jobs was given; the processes of this machine have no place beside a cluster.

    Raises:
        UsageError: For options that do not fit, or when Ray is not installed.
    """
    if ray is None:
        if workers:
            raise UsageError("--workers are those of --ray; leave it out, or name a cluster")
        return None
    if local:
        raise UsageError("--jobs are this machine's; with --ray it is --workers")
    require(f"{verb} --ray", "ray", extra="cluster")
    from gan_denoise.core.ray_jobs import Cluster

    return Cluster(ray, workers)


def require_utf8(folder: Path) -> None:
    """Check that TensorFlow and ONNX Runtime can write to a folder.

    Raises:
        UsageError: When its name is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{folder}: TensorFlow writes only where the name is UTF-8",
                         "give another folder") from None


def load_enhancer(
    model: str | None = None, inversion: str | None = None, threads: int = 0,
    chunk_seconds: float | None = None,
) -> Enhancer:
    """Load a model for denoising; what is None is the default model, its inversion, 45 seconds."""
    from gan_denoise.core.memory import keep_freed_memory
    from gan_denoise.inference.enhancer import CHUNK_SECONDS, DEFAULT_MODEL, Enhancer

    keep_freed_memory()
    enhancer = Enhancer.load(model or DEFAULT_MODEL, threads, chunk_seconds or CHUNK_SECONDS)
    return enhancer if inversion is None else enhancer.with_inversion(inversion)


def run_or_model(source: Path) -> Path:
    """Return a folder as it is, and that of a shipped model by its name."""
    from gan_denoise.inference.model import find_model

    return source if source.is_dir() else find_model(str(source))
