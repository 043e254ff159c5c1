"""Denoising on ONNX Runtime alone: arrays, streams, files, folders, pipes.

Never imports TensorFlow, Keras or librosa. `Enhancer` is where one begins.
"""
