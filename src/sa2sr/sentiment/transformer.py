"""Transformers text classifiers as teachers, such as the RoBERTa of TweetEval (Barbieri et al., 2020).

Weights are read from safetensors only and no code of a model is ever run.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sa2sr.config import SENTIMENTS
from sa2sr.errors import ModelError, UserError
from sa2sr.sentiment.teachers import natural_case

_SPELLINGS = {"neg": "negative", "neu": "neutral", "pos": "positive", **{name: name for name in SENTIMENTS}}
_LONGEST_WORD_PIECE = 50  # characters; longer texts than this many a token are cut before they are tokenised


class TransformerTeacher:
    """A sequence classifier with the outputs negative, neutral and positive, in any order.

    Args:
        model: a folder, or a hub id, which is looked up in the local cache before anything is downloaded
        batch_size: texts in a batch
        labels: the meaning of the outputs in their order, for a model whose configuration does not say
        device: such as ``"cpu"``; a GPU where there is one, by default

    Raises:
        ModelError: if the model is absent or unfit
    """

    def __init__(
        self,
        model: str | Path,
        *,
        batch_size: int = 32,
        labels: Sequence[str] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch size {batch_size} must be at least 1")
        self._batch_size = batch_size
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._tokenizer, network = load_text_model(str(model))
        self._network = network.float().eval().to(self._device)
        self._order = label_order(labels or list(network.config.id2label.values()), str(model))
        if len(self._order) != network.config.num_labels:
            raise ModelError(f"{model}: has {network.config.num_labels} outputs, not three")
        self._limit = most_tokens(self._tokenizer, network)
        folder = Path(model)
        self._name = f"transformers:{folder.resolve().name if folder.is_dir() else model}@{self._fingerprint()}"

    @property
    def name(self) -> str:
        """The model's name and a fingerprint of its weights, vocabulary and label order."""
        return self._name

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See :meth:`sa2sr.sentiment.Teacher.probabilities`."""
        tokens = self._tokenize(texts)
        result = np.zeros((len(texts), len(SENTIMENTS)), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
        for start in range(0, len(texts), self._batch_size):
            batch = by_length[start : start + self._batch_size]
            padded = self._tokenizer.pad({"input_ids": [tokens[index] for index in batch]}, return_tensors="pt")
            logits = self._network(**padded.to(self._device)).logits
            result[batch] = logits.double().softmax(dim=-1)[:, self._order].float().cpu().numpy()
        return result

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, at most as many as the model takes."""
        if not texts:
            return []
        prepared = [preprocess(text)[: self._limit * _LONGEST_WORD_PIECE] for text in texts]
        encoded: list[list[int]] = self._tokenizer(prepared, truncation=True, max_length=self._limit)["input_ids"]
        return encoded

    def _fingerprint(self) -> str:
        vocabulary = sorted(self._tokenizer.get_vocab().items())
        digest = hashlib.sha256(repr((self._order, self._limit, vocabulary)).encode("utf-8", "backslashreplace"))
        for key, tensor in self._network.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


def preprocess(text: str) -> str:
    """TweetEval's preprocessing (user mentions to ``@user``, links to ``http``), after :func:`natural_case`."""
    words = (_anonymous(word) for word in natural_case(text).split(" "))
    return " ".join(words).encode("utf-8", errors="replace").decode()  # half a surrogate pair is no text


def label_order(labels: Sequence[str], source: str) -> list[int]:
    """Where negative, neutral and positive stand in the outputs of a model.

    Args:
        labels: the names of the outputs, in any case, long or short (``neg``); ``LABEL_0`` to ``LABEL_2`` are taken
            for negative, neutral and positive, as TweetEval's models mean them, with a warning
        source: what errors name

    Raises:
        ModelError: if these are not the names of the three classes
    """
    names = [str(label).strip().lower() for label in labels]
    if names == ["label_0", "label_1", "label_2"]:
        message = f"{source}: does not name its outputs; they are taken for {', '.join(SENTIMENTS)} (else use --labels)"
        warnings.warn(message, stacklevel=3)
        return list(range(len(SENTIMENTS)))
    meanings = [_SPELLINGS.get(name) for name in names]
    if sorted(map(str, meanings)) != sorted(SENTIMENTS):
        shown = ", ".join(map(str, labels[:10]))
        raise ModelError(
            f"{source}: its outputs are called {shown}; a teacher has negative, neutral and positive. "
            "If it has, in other words, name them with --labels, in the order of its outputs"
        )
    return [meanings.index(name) for name in SENTIMENTS]


def _anonymous(word: str) -> str:
    if word.startswith("@") and len(word) > 1:
        return "@user"
    return "http" if word.startswith("http") else word


def load_text_model(model: str, kind: str = "AutoModelForSequenceClassification") -> tuple[Any, Any]:
    """Tokenizer and network, from the disk if they are there.

    Args:
        model: a folder, or a hub id
        kind: of transformers' classes

    Raises:
        ModelError: if the model is absent or unfit
        UserError: if the extra is missing
    """
    try:
        import transformers
    except ImportError:
        message = "text models of the kind transformers need the extra of that name: pip install 'sa2sr[transformers]'"
        raise UserError(message) from None
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    if kind == "AutoModel":
        transformers.utils.logging.set_verbosity_error()  # it would report what pools, and is missing or left over
    local = os.path.isdir(model)
    if not local and (os.path.isabs(model) or model.startswith(".") or model.count("/") > 1):
        raise ModelError(f"{model}: there is no such folder, and it is no hub id")
    try:
        return _from_pretrained(transformers, model, kind, offline=True)
    except ModelError:
        raise
    except Exception as error:  # what a broken folder raises depends on the file and on the version of the library
        if local or _hub_is_off():
            raise _unusable(model, error) from None
    try:
        return _from_pretrained(transformers, model, kind, offline=False)
    except ModelError:
        raise
    except Exception as error:
        raise _unusable(model, error) from None


def _from_pretrained(transformers: Any, model: str, kind: str, *, offline: bool) -> tuple[Any, Any]:
    arguments = {"local_files_only": offline, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(model, **arguments)
    network, report = getattr(transformers, kind).from_pretrained(
        model, use_safetensors=True, output_loading_info=True, **arguments
    )
    needed = "a text encoder" if kind == "AutoModel" else "a sentiment classifier"
    # What pools the states of an encoder is of no use here, and many come without it.
    if missing := sorted(name for name in report["missing_keys"] if kind != "AutoModel" or "pooler" not in name):
        raise ModelError(f"{model}: lacks trained weights ({_first(missing)}); {needed} is needed")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{model}: its tokenizer has no padding token, so it cannot read batches")
    if len(tokenizer) > (known := network.get_input_embeddings().num_embeddings):
        raise ModelError(f"{model}: its tokenizer has {len(tokenizer)} tokens, but its weights know only {known}")
    return tokenizer, network


def _unusable(model: str, error: Exception) -> ModelError:
    place = "" if os.path.isdir(model) else " from the hub or its local cache"
    online = " while HF_HUB_OFFLINE is set" if _hub_is_off() and not os.path.isdir(model) else ""
    reason = " ".join(str(error).split())[:300]
    return ModelError(
        f"{model}: cannot be loaded{place}{online} ({reason}). It needs config.json, a tokenizer and "
        "model.safetensors, in a folder or on the hub"
    )


def _hub_is_off() -> bool:
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.strip().upper() in ("1", "ON", "YES", "TRUE") for value in values)


def _first(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def most_tokens(tokenizer: Any, network: Any) -> int:
    """How many tokens the model takes; the RoBERTa family counts positions from behind its padding index."""
    positions: int = getattr(network.config, "max_position_embeddings", 512)
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
    return min(int(tokenizer.model_max_length), positions)
