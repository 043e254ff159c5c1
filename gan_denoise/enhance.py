"""The tool: a model folder cleans arrays, files and folders, on ONNX Runtime alone.

What is computed at the model's rate is the removed signal; it is resampled back and subtracted, so
a recording keeps its rate, length, channels and level.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.config import Config, ConfigError, InversionConfig, checkpoint_folder, load_config
from gan_denoise.inversion import bin_gain, griffinlim, mel_to_magnitude, refine_phase
from gan_denoise.mel import Mel
from gan_denoise.treatment import Treatment
from gan_denoise.writer import write_like

DEFAULT_MODEL = "first"
PROCESSING_VERSION = 1  # of the samples that a model gives; journals redo files of another one
CHUNK_SECONDS = 20.0  # longer recordings are processed in parts that share context
PARTS = ("model.onnx", "config.yaml", "mel_filterbank.npy")


class ModelError(ValueError):
    """A model cannot be loaded or used; says which and the way out."""


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        source: The input.
        target: The output.
        status: `done`, `skipped` (was done before) or `failed`.
        seconds: Duration of the recording; 0 where it could not be read.
        sample_rate: In Hz.
        channels: Count of channels of the input.
        elapsed: Seconds of work.
        peak_in_db: Largest magnitude of the input, dB below full scale.
        peak_out_db: Of the output, before clipping and encoding.
        noise_floor_drop_db: By how much the quietest tenth of the recording went down.
        clipped: Samples that an integer format could not hold and that were clipped.
        guard_gain_db: Gain of the peak guard; 0 where it had nothing to do.
        lost: Names of metadata that the output does not have.
        error: Reason why there is no output, None where there is one.
    """

    source: Path
    target: Path
    status: str = "done"
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    elapsed: float = 0.0
    peak_in_db: float | None = None
    peak_out_db: float | None = None
    noise_floor_drop_db: float | None = None
    clipped: int = 0
    guard_gain_db: float = 0.0
    lost: tuple[str, ...] = ()
    error: str | None = None

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of audio in a second of work; None without work."""
        return self.seconds / self.elapsed if self.elapsed and self.status == "done" else None


class Enhancer:
    """A loaded model. `Enhancer.load` makes one.

    Attributes:
        name: Of the model.
        config: Its settings.
        mel: Its transform.
        receptive_field: Frames on each side that a frame's estimate depends on.
    """

    def __init__(self, name: str, config: Config, mel: Mel, session: Any, fingerprint: str,
                 treatment: Treatment | None = None):
        self.name, self.config, self.mel, self._session = name, config, mel, session
        self.fingerprint, self.treatment = fingerprint, treatment or Treatment()
        geometry = session.get_modelmeta().custom_metadata_map
        missing = {"receptive_field", "time_stride"} - set(geometry)
        if missing:
            raise ModelError(f"{name}: model.onnx does not say its {', '.join(sorted(missing))}; "
                             "export the model again")
        self.receptive_field = int(geometry["receptive_field"])
        self.time_stride = int(geometry["time_stride"])

    @classmethod
    def load(cls, model: str | Path = DEFAULT_MODEL, threads: int = 0) -> Enhancer:
        """Load a model folder, or a shipped model by name.

        Args:
            model: Folder, or name of a shipped model.
            threads: Of the network; 0: one per core.

        Raises:
            ModelError: When there is no such model, a part is missing, or it is too new.
        """
        import onnxruntime

        folder = find_model(model)
        try:
            config = load_config(folder / "config.yaml")
        except ConfigError as error:
            raise ModelError(str(error)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                folder / "model.onnx", options, providers=["CPUExecutionProvider"]
            )
            filterbank = np.load(folder / "mel_filterbank.npy")
            mel = Mel(config.audio, config.mel, filterbank)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ModelError(f"{folder}: not a usable model ({error}); export it again") from error
        digest = hashlib.blake2b(digest_size=16)
        for part in PARTS:
            digest.update((folder / part).read_bytes())
        return cls(folder.name, config, mel, session, digest.hexdigest())

    def with_inversion(self, name: str | None = None, **changes: Any) -> Enhancer:
        """Return the same model with another inversion, by name or by its settings."""
        if name is not None:
            changes["name"] = name
        inversion = InversionConfig(**(self.config.inversion.model_dump() | changes))
        config = self.config.model_copy(update={"inversion": inversion})
        return Enhancer(self.name, config, self.mel, self._session, self.fingerprint,
                        self.treatment)

    def with_treatment(self, treatment: Treatment) -> Enhancer:
        """Return the same model with another treatment."""
        return Enhancer(self.name, self.config, self.mel, self._session, self.fingerprint,
                        treatment)

    def settings(self) -> dict[str, Any]:
        """Return all that decides what is written for a recording, as JSON values."""
        return {"model": self.fingerprint, "inversion": self.config.inversion.model_dump(),
                "treatment": self.treatment.model_dump(), "version": PROCESSING_VERSION}

    def estimate(self, noisy01: np.ndarray) -> np.ndarray:
        """Return the network's estimate of the clean mel.

        Args:
            noisy01: mel01, float32 `[frames, n_mels]` or `[batch, frames, n_mels]`.

        Returns:
            mel01 of the same shape.
        """
        batch = noisy01 if noisy01.ndim == 3 else noisy01[None]
        estimate = self._session.run(["estimate_mel"], {"noisy_mel": batch})[0]
        return estimate if noisy01.ndim == 3 else estimate[0]

    def enhance(self, recording: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the recording without its noise: same shape, rate and level.

        Args:
            recording: Float `[samples]` or `[channels, samples]`, full scale is 1; each channel
                is cleaned by itself.
            sample_rate: Hz, any.

        Returns:
            float32 of the same shape.

        Raises:
            ModelError: When the array is empty, not finite, looks transposed, or is of integers.
        """
        recording = np.asarray(recording)
        _check_array(recording)
        recording = recording.astype(np.float32, copy=False)
        channels = recording if recording.ndim == 2 else recording[None]
        cleaned = np.stack([self._channel(channel, sample_rate) for channel in channels])
        return cleaned if recording.ndim == 2 else cleaned[0]

    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        residual: str | Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> FileResult:
        """Clean one file into another of the same container, subtype, rate, length and channels.

        Args:
            source: The recording.
            target: File to write.
            residual: File for what was removed; None: none.
            progress: Called with the seconds of the recording done since its last call.

        Raises:
            AudioError: When the source cannot be read or the target not written.
        """
        source, target = Path(source), Path(target)
        if target.exists() and source.exists() and target.samefile(source):
            raise audio.AudioError(f"{source}: output is the input; give another output folder")
        begun = time.perf_counter()
        info = audio.probe(source)
        recording, rate = audio.read(source)
        cleaned = self.enhance(recording, rate)
        target.parent.mkdir(parents=True, exist_ok=True)
        if residual is not None:
            write_like(residual, recording - cleaned, info)
        clipped = write_like(target, cleaned, info)
        if progress is not None:
            progress(info.seconds)
        return FileResult(source, target, seconds=info.seconds, sample_rate=rate,
                          channels=info.channels, clipped=clipped,
                          elapsed=time.perf_counter() - begun)

    def enhance_folder(
        self,
        inputs: Sequence[str | Path],
        out: str | Path,
        recursive: bool = True,
        progress: Callable[[FileResult, int, int], None] | None = None,
    ) -> list[FileResult]:
        """Clean files and folders into one folder that mirrors their trees.

        A file that fails is reported in its result, and the rest goes on.

        Args:
            inputs: Files and folders.
            out: Output folder.
            recursive: Whether sub-folders are searched.
            progress: Called with (result, files done, files in all).

        Raises:
            AudioError: Before any work, when nothing is found, two inputs would write one output,
                or the output folder is an input.
        """
        plan = _plan([Path(item) for item in inputs], Path(out), recursive)
        results = []
        for done, (source, target) in enumerate(plan, start=1):
            try:
                result = self.enhance_file(source, target)
            except (audio.AudioError, ModelError, OSError) as error:
                result = FileResult(source, target, status="failed", error=str(error))
            results.append(result)
            if progress is not None:
                progress(result, done, len(plan))
        return results

    # ---- One channel ---------------------------------------------------------------------------
    def _channel(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        own = self.config.audio.sample_rate
        if sample_rate == own:
            return self._at_model_rate(samples)
        noisy = audio.resample(samples, sample_rate, own)
        if not len(noisy):
            return samples.copy()
        removed = noisy - self._at_model_rate(noisy)
        return samples - audio.resample(removed, own, sample_rate, length=len(samples))

    def _at_model_rate(self, noisy: np.ndarray) -> np.ndarray:
        """Clean `[samples]`, in parts that carry enough context to equal the whole."""
        inversion = self.config.inversion
        grid = self.config.mel.hop_length * self.time_stride
        chunk = grid * max(round(CHUNK_SECONDS * self.config.audio.sample_rate / grid), 1)
        if len(noisy) <= 2 * chunk or inversion.name == "griffinlim":
            return self._part(noisy)
        steps = inversion.phase_steps if inversion.name == "gain+phase" else 0
        frames = self.receptive_field + 4 * (steps + 1)
        frames += -frames % self.time_stride
        context = self.config.mel.hop_length * frames + self.config.mel.n_fft
        context += -context % grid
        cleaned = np.empty_like(noisy)
        for start in range(0, len(noisy), chunk):
            low, stop = max(start - context, 0), min(start + chunk, len(noisy))
            part = self._part(noisy[low : stop + context])
            cleaned[start:stop] = part[start - low : stop - low]
        return cleaned

    def _part(self, noisy: np.ndarray) -> np.ndarray:
        mel, inversion = self.mel, self.config.inversion
        spectrum = mel.stft(noisy)
        noisy01 = mel.normalise(mel.linear(spectrum))
        estimate01 = self.estimate(noisy01)
        if inversion.name == "griffinlim":
            magnitude = mel_to_magnitude(mel, mel.denormalise(estimate01))
            return griffinlim(mel, magnitude, len(noisy), inversion.griffinlim_steps,
                              inversion.griffinlim_momentum, inversion.seed)
        spectrum = bin_gain(mel, noisy01, estimate01, inversion.max_gain_db) * spectrum
        if inversion.name == "gain+phase":
            spectrum = refine_phase(mel, spectrum, len(noisy), inversion.phase_steps)
        return mel.istft(spectrum, len(noisy))


def find_model(model: str | Path) -> Path:
    """Return the folder of a model given as a folder or by the name of a shipped one.

    Raises:
        ModelError: When there is none, or a part of it is missing.
    """
    folder = Path(model)
    shipped = checkpoint_folder() / folder.name
    if not folder.is_dir() and str(model) == folder.name and shipped.is_dir():
        folder = shipped
    if not folder.is_dir():
        names = ", ".join(sorted(path.parent.name for path in
                                 checkpoint_folder().glob("*/model.onnx"))) or "none"
        raise ModelError(f"{model}: no such model folder; shipped models: {names}")
    missing = [part for part in PARTS if not (folder / part).is_file()]
    if missing and (folder / "latest.npz").is_file():
        raise ModelError(f"{folder}: is a training run; first gan-denoise export {folder} -o MODEL")
    if missing:
        raise ModelError(f"{folder}: {', '.join(missing)} missing; export the model again")
    return folder


def _check_array(recording: np.ndarray) -> None:
    if recording.ndim not in (1, 2) or recording.size == 0:
        raise ModelError(f"expected [samples] or [channels, samples], not {recording.shape}")
    if recording.ndim == 2 and recording.shape[0] > 32 and recording.shape[0] > recording.shape[1]:
        raise ModelError(
            f"{recording.shape} looks transposed: expected [channels, samples]; pass array.T"
        )
    if not np.issubdtype(recording.dtype, np.floating):
        raise ModelError(f"expected floats with full scale 1, not {recording.dtype}; for 16-bit "
                         "samples divide by 32768")
    if not np.isfinite(recording).all():
        raise ModelError("the recording holds NaN or infinite samples")


def _plan(inputs: Sequence[Path], out: Path, recursive: bool) -> list[tuple[Path, Path]]:
    """Return (source, target) of every file, all of it checked before any work."""
    plan: dict[Path, Path] = {}  # target -> source
    inside = out.resolve()
    for item in inputs:
        if item.is_dir() and item.resolve() == inside:
            raise audio.AudioError(f"{out}: output folder is the input; give another one with -o")
        for source in audio.find_audio(item, recursive):
            if item.is_dir() and inside in source.resolve().parents:
                continue  # what an earlier run wrote into an output folder inside the input
            target = out / (source.relative_to(item) if item.is_dir() else source.name)
            if target in plan and plan[target].resolve() != source.resolve():
                raise audio.AudioError(
                    f"{source} and {plan[target]} would both be written to {target}; denoise them "
                    "into two folders"
                )
            plan[target] = source
    if not plan:
        raise audio.AudioError(f"no audio found under {', '.join(map(str, inputs))} outside {out}")
    return [(source, target) for target, source in plan.items()]
