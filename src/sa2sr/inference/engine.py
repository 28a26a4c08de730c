"""What computes: an engine takes the frames of a batch of clips and gives their emotions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sa2sr.errors import ModelError
from sa2sr.speech.features import Frames


class Engine(Protocol):
    """The network of a model folder, whatever runs it."""

    def emotions(self, frames: Sequence[Frames]) -> NDArray[np.float32]:
        """Activation, valence and dominance of B clips, (B, 3), from their stacked frames (T', D).

        The company of a clip in its batch does not matter.
        """


class TorchEngine:
    """PyTorch in single precision."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        """Load the network.

        Raises:
            ModelError: if the folder is not a model, or torch does not know the device
        """
        import torch

        from sa2sr.network.model import load_model

        try:
            self.device = torch.device(device)
            self.network = load_model(folder, self.device)
        except (RuntimeError, AssertionError) as error:  # of torch, in several ways, when a device is not there
            raise ModelError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from None

    def emotions(self, frames: Sequence[Frames]) -> NDArray[np.float32]:
        """As :meth:`Engine.emotions`."""
        import torch

        lengths = torch.tensor([len(each) for each in frames])
        padded = torch.zeros(len(frames), int(lengths.max()), frames[0].shape[1])
        for row, each in zip(padded, frames, strict=True):
            row[: len(each)] = torch.from_numpy(each)
        # TensorFloat-32 would round to 10 bits, differently in every batch.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            lengths = lengths.to(self.device)
            states = self.network.states(padded.to(self.device), lengths)
            emotions: NDArray[np.float32] = self.network.emotion(states, lengths).cpu().numpy()
        return emotions
