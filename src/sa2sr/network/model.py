"""The whole network, and the folder that it is saved in."""

from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sa2sr.config import ALPHABET, SENTIMENTS, EmotionSettings, ModelSettings, to_yaml
from sa2sr.errors import ModelError
from sa2sr.files import atomic, write_json, write_text
from sa2sr.network.conformer import ConformerEncoder
from sa2sr.network.encoder import LstmEncoder
from sa2sr.network.folder import ENCODER_FILE, SETTINGS_FILE, WEIGHTS_FILE, find_model, read_settings
from sa2sr.network.objectives import OBJECTIVES, Ctc, Emotion, Objective, Sentiment
from sa2sr.network.pretrained.configuration import check_library

if TYPE_CHECKING:
    from sa2sr.network.pretrained.encoder import PretrainedEncoder
    from sa2sr.speech.batches import Batch

_TYPES = ("F64", "F32", "F16", "BF16")  # of weights in a file


class SpeechModel(nn.Module):
    """An encoder and the objectives on its states."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = _make_encoder(settings)
        self.objectives = nn.ModuleDict(
            {
                name: OBJECTIVES[name].build(self._width(name), objective, settings.frontend.dimension)
                for name, objective in settings.objectives.active().items()
            }
        )
        self.encoder_frozen = False
        for name, objective in settings.objectives.active().items():
            self.objectives[name].requires_grad_(objective.weight > 0)

    def freeze_encoder(self) -> None:
        """Train the objectives alone; the encoder stays as it is, without dropout."""
        self.encoder_frozen = True
        self.encoder.requires_grad_(False).eval()

    def load_pretrained_encoder(self, name: str) -> None:
        """Give an encoder of the kind ``transformers`` the weights of a folder or of the hub.

        Raises:
            ModelError: if they cannot be loaded, or are those of another architecture
        """
        self.encoder.load_pretrained(name)  # type: ignore[operator]

    def train(self, mode: bool = True) -> "SpeechModel":
        """As for any module, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self

    def states(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Frames (B, T', D), of (B,) lengths -> encoder states (B, T', H), of :meth:`state_lengths`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen):
            return self.encoder(frames, lengths)  # type: ignore[no-any-return]

    def state_lengths(self, lengths: Tensor) -> Tensor:
        """How many states there are of (B,) frames: a state a frame, but of a waveform, whose frames are samples."""
        if self.settings.frontend.kind != "waveform":
            return lengths
        return self.encoder.state_lengths(lengths)  # type: ignore[operator]

    def forward(self, batch: "Batch") -> dict[str, Tensor]:
        """The loss of each objective, unweighted."""
        states, lengths = self.states(batch.frames, batch.lengths), self.state_lengths(batch.lengths)
        return {
            name: objective.loss(self.read_by(name, states, lengths, batch.frames), lengths, batch)
            for name, objective in self.trained_tasks().items()
        }

    def read_by(self, task: str, states: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
        """What a task reads, (B, T', ...): the encoder states, or what its settings join to them or put in their place.

        Args:
            task: name of the objective
            states: (B, T', H)
            lengths: of the states, (B,)
            frames: that they come from, (B, T', D)
        """
        inputs = _inputs(self.settings, task)
        if inputs == ("states",):
            return states
        if not inputs:  # but the transcript
            return states[..., :0]
        parts = {"states": states, "frames": frames}
        if "posteriors" in inputs:
            recogniser: Ctc = self.objectives["ctc"]  # type: ignore[assignment]
            parts["posteriors"] = recogniser.logits(states).float().softmax(-1)
        if "sentiment" in inputs:  # of the whole utterance, and so the same at every step
            head: Sentiment = self.objectives["sentiment"]  # type: ignore[assignment]
            sentiment = head.logits(states, lengths).float().log_softmax(-1)
            parts["sentiment"] = sentiment[:, None].expand(-1, states.shape[1], -1)
        return torch.cat([parts[each] for each in inputs], -1)

    def _width(self, task: str) -> int:
        """Size of what a task reads."""
        sizes = {
            "states": self.encoder.dimension,
            "frames": self.settings.frontend.dimension,
            "posteriors": 1 + len(ALPHABET),
            "sentiment": len(SENTIMENTS),
        }
        return sum(sizes[each] for each in _inputs(self.settings, task))

    def trained_tasks(self) -> dict[str, Objective]:
        """The objectives with a weight; the others only came along from an earlier training."""
        weights = self.settings.objectives.active()
        return {name: task for name, task in self.tasks().items() if weights[name].weight}

    def tasks(self) -> dict[str, Objective]:
        """The objectives by name."""
        return dict(self.objectives.items())  # type: ignore[arg-type]

    @property
    def recogniser(self) -> Ctc:
        """The transcribing head.

        Raises:
            ModelError: if there is none, or the encoder has since learnt without it
        """
        if "ctc" not in self.objectives or "ctc" in self.settings.drifted:
            raise ModelError(f"the model '{self.settings.name}' does not transcribe; one that is trained on ctc does")
        return self.objectives["ctc"]  # type: ignore[return-value]

    @property
    def emotion(self) -> Emotion:
        """The emotion regressor.

        Raises:
            ModelError: if the model has none
        """
        if "emotion" not in self.objectives:
            raise ModelError(
                f"the model '{self.settings.name}' does not predict activation, valence and dominance; its tasks are "
                f"{', '.join(self.objectives)}; 'sa2sr finetune' trains it on emotion"
            )
        return self.objectives["emotion"]  # type: ignore[return-value]


def _inputs(settings: ModelSettings, task: str) -> tuple[str, ...]:
    """What a task reads, by name; only emotions can be told from more than states."""
    objective = settings.objectives.active()[task]
    return objective.inputs if isinstance(objective, EmotionSettings) else ("states",)


def _make_encoder(settings: ModelSettings) -> "LstmEncoder | ConformerEncoder | PretrainedEncoder":
    if settings.encoder.kind == "transformers":
        check_library()
        from sa2sr.network.pretrained.encoder import PretrainedEncoder  # its library takes seconds to import

        return PretrainedEncoder(settings.encoder)
    kind = ConformerEncoder if settings.encoder.kind == "conformer" else LstmEncoder
    return kind(settings.frontend.dimension, settings.encoder)


def save_model(model: SpeechModel, folder: str | Path) -> None:
    """Write ``config.yaml``, ``model.safetensors`` and, of a pre-trained encoder, ``encoder.json``, each atomically."""
    folder = Path(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic(folder / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(save(weights))  # save_file would leave a temporary file of its own when killed
    if model.settings.encoder.configuration is not None:
        write_json(folder / ENCODER_FILE, dict(model.settings.encoder.configuration))
    write_text(folder / SETTINGS_FILE, to_yaml(model.settings))


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> SpeechModel:
    """Load a model folder, or the model of a run folder, in evaluation mode; nothing in it is executed or unpickled.

    Raises:
        ModelError: naming what is missing or does not fit
    """
    folder = find_model(folder)
    settings = read_settings(folder)
    # Without memory at first: a small file must not be able to claim a large network.
    with torch.device("meta"):
        model = SpeechModel(settings)
    weights = _checked_weights(folder / WEIGHTS_FILE, model.state_dict())
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).to(device).eval()


def _checked_weights(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            types = {name: part.get_dtype() for name, part in slices.items()}
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: is not a safetensors file ({error})") from None
    for name, tensor in expected.items():
        if shapes.get(name) != tuple(tensor.shape):
            found = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise ModelError(f"{path}: {name} {found}; {SETTINGS_FILE} asks for {tuple(tensor.shape)}")
    if unknown := sorted(shapes.keys() - expected.keys()):
        name = repr(unknown[0][:100])  # it may hold anything, even what would steer a terminal
        raise ModelError(f"{path}: holds {name} (and {len(unknown) - 1} more) that {SETTINGS_FILE} does not know")
    for name, kind in types.items():
        if kind not in _TYPES:
            raise ModelError(f"{path}: {name} holds numbers of the type {kind}; allowed: {', '.join(_TYPES)}")
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite")
    return weights
