"""What a training step of a pre-trained encoder holds in memory, counted tensor by tensor.

Weights are random, since what they are does not matter: no download is needed. Without `--name` the architecture is
the library's default of a family, which of wav2vec2, hubert and wavlm is the base size. The step is one of
`sa2sr finetune`: the emotion regressor on the encoder's states, gradients, AdamW. It runs on the CPU; a GPU holds the
same tensors, and beside them some hundred MB of its own libraries, and what its allocator keeps in reserve.

One JSON object is printed, in MB: `weights` and `optimiser`, which do not depend on the batch, and the most that a
forward and a backward pass hold beside them: activations, what is there for a moment, and at last the gradients.
"""

import argparse
import json
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sa2sr.config import EmotionSettings, EncoderSettings, ModelSettings, Objectives, Optimiser, Scale
from sa2sr.network.model import SpeechModel
from sa2sr.network.pretrained.loading import frontend_of, pretrained_configuration
from sa2sr.speech.batches import Batch
from sa2sr.training.optimisation import make_optimiser

MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=["wav2vec2", "hubert", "wavlm", "whisper"], default="wavlm")
    parser.add_argument("--name", help="a folder or hub id whose architecture it is instead")
    parser.add_argument("--utterances", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each")
    parser.add_argument("--freeze", default="features", help="none, features, all, or a number of layers")
    parser.add_argument("--lora", action="store_true", help="adapters of rank 8")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()

    network = make_network(arguments).train()
    batch = make_batch(arguments.utterances, round(arguments.seconds * 16_000))
    optimiser = make_optimiser(network, Optimiser(kind="adamw"))
    weights = sum(size_of(each) for each in network.state_dict().values())
    for _ in range(2):  # the first makes the state of the optimiser
        with LiveMemory() as memory, torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = network(batch)["emotion"]
            loss.backward()
        gradients = sum(size_of(each.grad) for each in network.parameters() if each.grad is not None)
        optimiser.step()
        optimiser.zero_grad()
    state = sum(size_of(each) for values in optimiser.state.values() for each in values.values())
    parts = {"weights": weights, "optimiser": state, "forward_and_backward": memory.peak}
    parts |= {"of_which_gradients": gradients, "all": weights + state + memory.peak}
    print(json.dumps(vars(arguments) | {name: round(size / MB) for name, size in parts.items()}, indent=2))


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it and still there, and the most that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self.count(each.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def forget(_: object) -> None:
            del self.known[key]
            self.live -= size

        self.known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def size_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def make_network(arguments: argparse.Namespace) -> SpeechModel:
    freeze = int(arguments.freeze) if arguments.freeze.isdecimal() else arguments.freeze
    values = {"kind": "transformers", "name": arguments.name or arguments.family, "freeze": freeze}
    values |= {"checkpointing": arguments.checkpointing, "lora": {} if arguments.lora else None}
    known = pretrained_configuration(arguments.name) if arguments.name else {"model_type": arguments.family}
    return SpeechModel(
        ModelSettings(
            encoder=EncoderSettings.model_validate(values).with_configuration(known),
            frontend=frontend_of(known),
            objectives=Objectives(emotion=EmotionSettings()),
            scale=Scale(),
        )
    )


def make_batch(utterances: int, samples: int) -> Batch:
    unknown = torch.full((utterances, 3), float("nan"))
    names = [str(number) for number in range(utterances)]
    frames, ratings = torch.randn(utterances, samples, 1), 1 + 6 * torch.rand(utterances, 3)
    return Batch(names, frames, torch.full((utterances,), samples), [None] * utterances, unknown, ratings, 0.0)


if __name__ == "__main__":
    main()
