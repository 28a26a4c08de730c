"""Pre-trained encoders of the transformers library, from waveforms to states."""
