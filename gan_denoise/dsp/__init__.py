"""Signal processing: STFT and mel, mel to waveform, overlap-add, levels.

NumPy throughout but for `keras_mel` and `keras_bounds`, which training alone imports; nothing here
knows a network.
"""
