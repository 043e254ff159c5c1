"""Clean a WAV with a model folder; dsp.json says everything else. Port these few functions.

Usage: python onnx_example.py MODEL_FOLDER NOISY.wav CLEANED.wav   (at the model's rate)"""
import json
import sys

import numpy as np
import onnxruntime
import soundfile


def stft(audio, w, hop):  # [samples] -> complex [frames, bins]
    padded = np.pad(audio, len(w) // 2)
    starts = range(0, len(audio) + 1, hop)  # 1 + floor(samples / hop) of them
    return np.fft.rfft([w * padded[start : start + len(w)] for start in starts])


def istft(spectrum, w, hop, length, floor):  # the least-squares inverse
    signal, weight = np.zeros((2, (len(spectrum) - 1) * hop + len(w)))
    for t, frame in enumerate(np.fft.irfft(spectrum, len(w))):
        signal[t * hop : t * hop + len(w)] += w * frame
        weight[t * hop : t * hop + len(w)] += w**2
    return (signal / np.maximum(weight, floor))[len(w) // 2 :][:length]


def normalised_mel(spectrum, bank, n):  # complex [frames, bins] -> mel01 [frames, n_mels]
    decibel = 20 * np.log10(np.maximum(np.abs(spectrum) @ bank.T, n["floor"]))
    return np.clip((decibel + n["offset_db"]) / n["range_db"], n["low"], n["high"])


def spread_matrix(bank):  # a bin's gain is the mean of the bands over it, or over its neighbour
    weight = bank.sum(axis=0)
    covered = np.flatnonzero(weight > 0)
    nearest = [covered[np.abs(covered - k).argmin()] for k in range(len(weight))]
    return bank[:, nearest] / weight[nearest]


folder, source, target = sys.argv[1:]
with open(f"{folder}/dsp.json", encoding="utf-8") as file:
    dsp = json.load(file)
mel, net, win, hop = dsp["mel"], dsp["network"], dsp["stft"]["window"], dsp["stft"]["hop_length"]
bank = np.fromfile(f"{folder}/{mel['file']}", "<f4", offset=mel["offset_bytes"])
bank = bank.reshape(mel["shape"])
w = np.pad(np.hanning(dsp["stft"]["win_length"] + 1)[:-1], (win["zeros_left"], win["zeros_right"]))
session = onnxruntime.InferenceSession(f"{folder}/{net['formats']['onnx']['file']}")

recording, rate = soundfile.read(source, always_2d=True)
assert rate == dsp["sample_rate"], f"{source}: {rate} Hz; resample it to {dsp['sample_rate']} Hz"
for channel in recording.T:  # each by itself, in place
    spectrum = stft(np.pad(channel, (0, dsp["end"]["samples"]), "symmetric"), w, hop)
    noisy01 = normalised_mel(spectrum, bank, dsp["normalisation"]).astype(np.float32)
    estimate01 = session.run([net["output"]["name"]], {net["input"]["name"]: noisy01[None]})[0][0]
    decibel = (estimate01 - noisy01) * dsp["normalisation"]["range_db"]
    for size in dsp["gain"].get("smoothing", []):  # frames, then bands: those that there are
        wide = np.pad(decibel, [(size // 2,) * 2, (0, 0)], constant_values=np.nan)
        decibel = np.nanmean(np.lib.stride_tricks.sliding_window_view(wide, size, 0), axis=-1).T
    decibel += dsp["gain"].get("offset_db", 0)
    gain = 10 ** (np.minimum(decibel, dsp["gain"]["max_gain_db"]) / 20) @ spread_matrix(bank)
    channel[:] = istft(gain * spectrum, w, hop, len(channel), dsp["istft"]["weight_floor"])
soundfile.write(target, recording, rate, "FLOAT")
