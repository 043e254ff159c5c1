"""Runs turned into model folders: ONNX, LiteRT, SavedModel, the card, the DSP in numbers."""
