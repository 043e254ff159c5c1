"""The names of the files in run directories and model folders, each said once."""

from __future__ import annotations

SETTINGS = "config.yaml"  # in both
# A run directory.
LATEST, BEST = "latest.npz", "best.npz"
# A model folder.
NETWORK = "model.onnx"
FILTERBANK = "mel_filterbank.npy"
DSP = "dsp.json"
CARD, CARD_TEXT = "model_card.json", "model_card.md"
GENERATOR_WEIGHTS = "generator.weights.h5"
DISCRIMINATOR_WEIGHTS = "discriminator.weights.h5"
INFERENCE_PARTS = (NETWORK, SETTINGS, FILTERBANK)  # what denoising needs
# Constants of NETWORK: the frames that come out of it, all of them.
FIRST_FRAME, STOP_FRAME = "first_frame", "stop_frame"
