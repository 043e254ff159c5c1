"""The reconstruction loss: weighted terms of `losses`, and of losses that plugins register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras import ops

from gan_denoise.config.registry import LOSSES
from gan_denoise.config.schema import Config
from gan_denoise.dsp.keras_mel import KerasMel
from gan_denoise.training import losses

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

    Spectra = Mapping[str, Tensor | tuple[Tensor, Tensor]]


class Objective:
    """Weighted sums of losses, and the named terms that they are made of.

    Args:
        config: Settings; `losses` and `inversion`'s gain are used.
        mel: The transform in the graph.
    """

    def __init__(self, config: Config, mel: KerasMel):
        self.weights, self.inversion, self.mel = config.losses, config.inversion.gain, mel
        self.features = not config.data.has_waveforms
        self.rates = config.audio.sample_rate, config.mel.hop_length

    def mel01(self, waveform: Tensor) -> Tensor:
        """Return mel01 `[batch, frames, n_mels]` of waveforms `[batch, samples]`."""
        return self.mel.normalise(self.mel.linear(_magnitude(*self.mel.stft(waveform))))

    def spectra(self, noisy: Tensor, clean: Tensor) -> Spectra:
        """Return what the losses need of two waveforms `[batch, samples]`.

        Features `[batch, frames, bands]` are mel01 already, and all that there is.

        Returns:
            Of each, under `noisy` and `clean`: the STFT as (real, imaginary), `_magnitude`, both
            `[batch, frames, bins]`, and mel01 as `noisy01` and `clean01`.
        """
        if self.features:
            return {"noisy01": noisy, "clean01": clean}
        spectra: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
        for name, waveform in (("noisy", noisy), ("clean", clean)):
            spectrum = self.mel.stft(waveform)
            magnitude = _magnitude(*spectrum)
            spectra[name] = spectrum
            spectra[f"{name}_magnitude"] = magnitude
            spectra[f"{name}01"] = self.mel.normalise(self.mel.linear(magnitude))
        return spectra

    def inverted_mel01(self, noisy: Tensor, spectra: Spectra, estimate: Tensor) -> Tensor:
        """Return mel01 of the waveform that `gain` inversion makes of an estimate.

        Not the estimate itself: a gain for each bin blurs it, and neighbouring frames overlap.

        Args:
            noisy: Waveforms `[batch, samples]`.
            spectra: As `spectra` returns them.
            estimate: mel01 from the generator, `[batch, frames, n_mels]`.
        """
        gain = self.mel.bin_gain(spectra["noisy01"], estimate, self.inversion)
        gained = tuple(gain * part for part in spectra["noisy"])
        return self.mel01(self.mel.istft(gained, noisy.shape[-1]))

    def reconstruction(
        self, spectra: Spectra, estimate: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the reconstruction terms by name, unweighted, and their weighted sum.

        Args:
            spectra: As `spectra` returns them.
            estimate: mel01 from the generator, `[batch, frames, n_mels]`.
        """
        weights, power = self.weights, self.weights.compression
        clean01 = spectra["clean01"]
        terms = {"loss/mse": losses.mse(clean01, estimate)}
        total = weights.mse_weight * terms["loss/mse"]
        if weights.mel_weight:
            linear = self.mel.denormalise
            value = losses.compressed_mel(linear(clean01), linear(estimate), power)
            terms["loss/mel"] = value
            total += weights.mel_weight * value
        for name, weight in weights.extra_weights.items():
            if weight and LOSSES[name].of == "mel":
                terms[f"loss/{name}"] = LOSSES[name].function(clean01, estimate)
                total += weight * terms[f"loss/{name}"]
        extra = {name: weight for name, weight in weights.extra_weights.items()
                 if weight and LOSSES[name].of == "spectrum"}
        if extra or any(getattr(weights, key) for key in weights.OF_WAVEFORMS):
            gain = self.mel.bin_gain(spectra["noisy01"], estimate, self.inversion)
            magnitude, clean = gain * spectra["noisy_magnitude"], spectra["clean_magnitude"]
            if weights.magnitude_weight:
                value = losses.compressed_magnitude(clean, magnitude, power)
                terms["loss/magnitude"] = value
                total += weights.magnitude_weight * value
            gained = tuple(gain * part for part in spectra["noisy"])
            if weights.complex_weight:
                value = losses.compressed_complex(spectra["clean"], clean, gained, magnitude, power)
                terms["loss/complex"] = value
                total += weights.complex_weight * value
            if weights.snr_weight:
                value = losses.missing_snr(spectra["clean"], gained)
                terms["loss/snr"] = value
                total += weights.snr_weight * value
            if weights.estoi_weight:
                value = losses.missing_estoi(spectra["clean"], gained, *self.rates)
                terms["loss/estoi"] = value
                total += weights.estoi_weight * value
            for name, weight in extra.items():
                terms[f"loss/{name}"] = LOSSES[name].function(spectra["clean"], gained)
                total += weight * terms[f"loss/{name}"]
        return terms, total


def _magnitude(real: Tensor, imaginary: Tensor) -> Tensor:
    # At 0 the slope of a root is infinite.
    return ops.sqrt(ops.square(real) + ops.square(imaginary) + 1e-20)
