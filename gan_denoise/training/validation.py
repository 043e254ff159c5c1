"""Scores of a generator on the validation clips of a run, beside those of the trivial systems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from gan_denoise import metrics
from gan_denoise.config.schema import Config
from gan_denoise.data.validation_clips import ValidationClips
from gan_denoise.dsp.inversion import band_gain
from gan_denoise.dsp.mel import Mel
from gan_denoise.metrics.baselines import BEST_GAIN, trivial_estimates
from gan_denoise.training.monitor import GAIN_SUFFIX, NOISY_SUFFIX

PESQ_RATE = 16000  # Hz; wide-band PESQ is defined at no other
Clips = Mapping[str, dict[str, np.ndarray]]  # "mels" and "audio": noisy, estimate, clean


class Validation:
    """The validation clips of a run, and how a generator is scored on them.

    Args:
        config: Settings of the run.
        clips: Its validation clips.
        mel: Its mel.
        estimate: mel01 `[clips, frames, bands]` -> the generator's estimate of the clean mel01.
    """

    def __init__(
        self, config: Config, clips: ValidationClips, mel: Mel,
        estimate: Callable[[np.ndarray], np.ndarray],
    ):
        self.config, self.clips, self.mel, self.estimate = config, clips, mel, estimate
        self._trivial_scores: dict[str, float] | None = None  # the same at every validation

    def scores(self) -> tuple[dict[str, float], Clips]:
        """Score the generator, through `gain` inversion.

        Returns:
            Mean metrics by name, those of the noisy input and of the best constant gain beside
            them (`_noisy`, `_best_gain`). Where there are several sets, the mean over the sets and
            `SET/METRIC` of each. `at_15_db/METRIC` and `clean/METRIC` of easy clips. And the mels
            and waveforms behind them, batch first; features have no waveforms.
        """
        noisy, clean = self.clips.noisy, self.clips.clean
        shown = self._denoised(noisy, clean)
        values = self._set_scores(self._clip_scores(shown))
        for name, pair in self.clips.easy.items():
            own = _means(self._clip_scores(self._denoised(*pair)))
            values |= {f"{name}/{metric}": value for metric, value in own.items()}
        if self._trivial_scores is None:
            self._trivial_scores = self._trivial()
        return values | self._trivial_scores, shown

    def _denoised(self, noisy: np.ndarray, clean: np.ndarray) -> Clips:
        """Return the mels and waveforms of noisy, estimate and clean."""
        if not self.config.data.has_waveforms:
            mels = {"noisy": noisy, "estimate": self.estimate(noisy), "clean": clean}
            return {"mels": mels, "audio": {}}
        spectrum = self.mel.stft(noisy)
        noisy01 = self.mel.normalise(self.mel.linear(spectrum))
        estimate01 = self.estimate(noisy01)
        gain = band_gain(self.mel, noisy01, estimate01, self.config.inversion.gain)
        estimate = self.mel.istft(self.mel.bin_gain(gain) * spectrum, noisy.shape[1])
        mels = {"noisy": noisy01, "estimate": estimate01, "clean": self.mel.mel01(clean)}
        return {"mels": mels, "audio": {"noisy": noisy, "estimate": estimate, "clean": clean}}

    def _trivial(self) -> dict[str, float]:
        """Return the scores of the noisy input and of the best constant gain for each clip."""
        noisy, clean = self.clips.noisy, self.clips.clean
        gained = np.stack([trivial_estimates(c, n)[BEST_GAIN]
                           for c, n in zip(clean, noisy, strict=True)])
        values = {}
        for suffix, estimate in ((NOISY_SUFFIX, noisy), (GAIN_SUFFIX, gained)):
            scores = self._set_scores(self._clip_scores(self._as_shown(estimate, clean)))
            values |= {name + suffix: value for name, value in scores.items()
                       if suffix == NOISY_SUFFIX or "/" not in name}
        for name, (easy_noisy, easy_clean) in self.clips.easy.items():
            own = _means(self._clip_scores(self._as_shown(easy_noisy, easy_clean)))
            values |= {f"{name}/{metric}{NOISY_SUFFIX}": value for metric, value in own.items()}
        return values

    def _as_shown(self, estimate: np.ndarray, clean: np.ndarray) -> Clips:
        """Return given estimates, and their mels, as those of a generator."""
        both = {"estimate": estimate, "clean": clean}
        if not self.config.data.has_waveforms:
            return {"mels": both, "audio": {}}
        return {"mels": {name: self.mel.mel01(wave) for name, wave in both.items()}, "audio": both}

    # ---- Metrics -------------------------------------------------------------------------------
    def _set_scores(self, scores: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return the means over all clips: where there are sets, those over the sets, and each."""
        if not self.clips.sets:
            return _means(scores)
        sets = {name: _means({metric: values[part] for metric, values in scores.items()})
                for name, part in self.clips.sets.items()}
        overall = _means({metric: np.array([values[metric] for values in sets.values()])
                          for metric in scores})
        return overall | {f"{name}/{metric}": value for name, values in sets.items()
                          for metric, value in values.items()}

    def _clip_scores(self, shown: Clips) -> dict[str, np.ndarray]:
        """Return the scores of each clip, NaN where a metric refuses it; of mels without MFCC."""
        clean, estimate = (self.mel.mel_part(shown["mels"][name]) for name in ("clean", "estimate"))
        scores = {} if not shown["audio"] else self._waveform_scores(
            shown["audio"]["clean"], shown["audio"]["estimate"])
        for name in ("mse_mel", "psnr_mel", "snr_mel"):
            scores[name] = _each(getattr(metrics, name), clean, estimate)
        return scores

    def _waveform_scores(self, clean: np.ndarray, estimate: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of each clip; PESQ and STOI where they are defined and installed."""
        scores = {name: _each(getattr(metrics, name), clean, estimate)
                  for name in ("si_sdr", "snr")}
        rate, installed = self.mel.sample_rate, metrics.available()
        wanted = ["pesq_wb"] if rate == PESQ_RATE and installed["pesq"] else []
        wanted += ["stoi", "estoi"] if installed["pystoi"] else []
        for name in wanted:
            metric = getattr(metrics, name)
            scores[name] = _each(lambda c, e: metric(c, e, rate), clean, estimate)  # noqa: B023
        return scores


def _each(
    score: Callable[[np.ndarray, np.ndarray], float], clean: np.ndarray, estimate: np.ndarray
) -> np.ndarray:
    """Return the score of each clip; NaN where the metric refuses it."""
    values = []
    for c, e in zip(clean, estimate, strict=True):
        try:
            values.append(score(c, e))
        except metrics.Refused:
            values.append(math.nan)
    return np.array(values, np.float64)


def _means(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each metric over the clips that it does not refuse; NaN without any."""
    known = {name: values[~np.isnan(values)] for name, values in scores.items()}
    return {name: float(values.mean()) if len(values) else math.nan
            for name, values in known.items()}
