"""Speech emotion recognition with a sentiment-aware speech encoder.

Tensor shapes use these letters throughout: B batch, T frames (10 ms), T' stacked frames (30 ms), D features of a
stacked frame, H states of the encoder, K classes.
"""

__version__ = "0.1.0.dev0"
