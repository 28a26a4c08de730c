"""The encoder of a model: LSTM, conformer or a pre-trained one."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from sa2sr.config.base import Positive, Settings


class LoraSettings(Settings):
    """Low-rank adapters (Hu et al., 2021) beside linear layers of a pre-trained encoder, whose own weights stay."""

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: Positive = 16.0  # the adapters' outputs are scaled by alpha / rank
    dropout: float = Field(default=0.0, ge=0, lt=1)
    beside: tuple[str, ...] = ()  # names of linear layers; none: those that suit the encoder


class EncoderSettings(Settings):
    """A stack of LSTM layers, or of conformer blocks, over stacked frames; or a pre-trained encoder of waveforms."""

    # Its name was bilstm when there was one direction less.
    kind: Annotated[
        Literal["lstm", "conformer", "transformers"], BeforeValidator(lambda v: "lstm" if v == "bilstm" else v)
    ] = "lstm"
    direction: Literal["both", "forward"] = "both"  # forward: a state depends on the past alone
    layers: int = Field(default=5, ge=1, le=32)
    units: int = Field(default=192, ge=1, le=4096)  # of a direction; states have twice as many in both
    dropout: float = Field(default=0.0, ge=0, lt=1)  # between layers; of the conformer, within them
    heads: int = Field(default=4, ge=1, le=64)  # of the conformer's attention
    kernel: int = Field(default=31, ge=1, le=1001)  # stacked frames, of its convolution

    # Of the kind transformers, the library, to which none of the above applies.
    name: str | None = Field(default=None, min_length=1, max_length=1000)  # a folder, or a hub id
    readout: Literal["weighted", "last"] = "weighted"  # states: a learnt mean over all layers, or the last one's
    freeze: Literal["none", "features", "all"] | Annotated[int, Field(ge=1)] = (
        "features"  # that many layers, from below
    )
    lora: LoraSettings | None = None
    checkpointing: bool = False  # compute layers again going backward: less memory, a third more time
    _configuration: Mapping[str, Any] | None = PrivateAttr(None)

    @property
    def configuration(self) -> Mapping[str, Any] | None:
        """The architecture of a pre-trained encoder, once it is known: a file of its own in a model folder."""
        return self._configuration

    def with_configuration(self, configuration: Mapping[str, Any]) -> "EncoderSettings":
        """The same encoder, of a known architecture."""
        known = self.model_copy()
        known._configuration = configuration
        return known

    def foreign_keys(self) -> list[str]:
        """Keys of another kind of encoder that were given a value that is not their default: nothing reads them."""
        own = _KEYS[self.kind]
        return [
            name
            for name, field in EncoderSettings.model_fields.items()
            if name != "kind" and name not in own and getattr(self, name) != field.default
        ]

    @model_serializer(mode="wrap")
    def _keys_of_its_kind(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        is_pretrained = self.kind == "transformers"
        return {
            name: value
            for name, value in serialise(self).items()
            if name == "kind" or (name in _KEYS["transformers"]) == is_pretrained
        }

    @model_validator(mode="after")
    def _conformer_can_be_built(self) -> "EncoderSettings":
        if self.kind != "conformer":
            return self
        if self.direction != "both":
            raise ValueError("direction must be both: a conformer reads the whole utterance")
        if self.units % (2 * self.heads):
            raise ValueError(f"units ({self.units}) must be a multiple of twice the heads ({self.heads})")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel ({self.kernel}) must be odd, to reach as far back as ahead")
        return self

    @model_validator(mode="after")
    def _pretrained_encoder_is_named(self) -> "EncoderSettings":
        if self.kind != "transformers":
            if self.name is not None or self.lora is not None:
                raise ValueError(f"name and lora are of the kind transformers, not of {self.kind}")
            return self
        if self.name is None:
            raise ValueError("name must say which: a folder, or a hub id such as microsoft/wavlm-base-plus")
        if self.direction != "both":
            raise ValueError("direction must be both: a pre-trained encoder reads the whole utterance")
        if self.lora is not None and self.freeze not in ("features", "all"):
            raise ValueError(f"freeze ({self.freeze}) is of no use with lora, which freezes all but the adapters")
        return self


_STACK = ("direction", "layers", "units", "dropout")
_KEYS = {
    "lstm": _STACK,
    "conformer": (*_STACK, "heads", "kernel"),
    "transformers": ("name", "readout", "freeze", "lora", "checkpointing"),
}


def frames_of(encoder: EncoderSettings) -> str:
    """The kind of front end that an encoder reads."""
    return "waveform" if encoder.kind == "transformers" else "lfbe"
