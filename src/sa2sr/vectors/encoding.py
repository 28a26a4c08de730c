"""Texts to the mean states of a transformers text encoder."""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sa2sr.sentiment.transformer import load_text_model, most_tokens, preprocess

_BATCH = 32
_LONGEST_WORD_PIECE = 50  # characters


@torch.inference_mode()
def encode_texts(texts: Sequence[str], model: str) -> NDArray[np.float64]:
    """The mean over its tokens of the last states of each text, (N, H); padding does not count.

    Args:
        texts: N of them; what is longer than the model takes is cut
        model: a folder, or a hub id, which is looked up in the local cache before anything is downloaded

    Raises:
        ModelError: if the model is absent or unfit
        UserError: if the extra is missing
    """
    tokenizer, network = _loaded(model, os.path.isdir(model))
    limit = most_tokens(tokenizer, network)
    device = next(network.parameters()).device
    found = np.zeros((len(texts), network.config.hidden_size))
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for start in range(0, len(texts), _BATCH):
        rows = order[start : start + _BATCH]
        batch = tokenizer(
            [preprocess(texts[row])[: limit * _LONGEST_WORD_PIECE] for row in rows],
            truncation=True,
            max_length=limit,
            padding=True,
            return_tensors="pt",
        ).to(device)
        states = network(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        found[rows] = ((states * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy()
    return found


@lru_cache(maxsize=1)
def _loaded(model: str, is_folder: bool) -> tuple[Any, Any]:
    tokenizer, network = load_text_model(model, "AutoModel")
    return tokenizer, network.float().eval().to("cuda" if torch.cuda.is_available() else "cpu")
