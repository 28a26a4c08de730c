"""The optimiser, its learning rate, and what it runs on."""

import ctypes
import math
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, parse_flag_from_env

from sa2sr.config import Optimiser
from sa2sr.errors import UserError
from sa2sr.network.model import SpeechModel


def make_optimiser(model: SpeechModel, settings: Optimiser) -> torch.optim.Optimizer:
    """Adam or AdamW over what is trainable; the encoder is a group of its own, with its own rate if there is one."""
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    others = [p for p in model.objectives.parameters() if p.requires_grad]
    rates = (settings.encoder_rate or settings.rate, settings.rate)
    groups = [
        {"params": parameters, "lr": rate, "full_rate": rate}
        for parameters, rate in zip((encoder, others), rates, strict=True)
        if parameters
    ]
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.kind]
    return kind(groups, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)


def learning_rate_scale(step: int, planned_steps: int, settings: Optimiser) -> float:
    """Factor of the full rate at a step (from 0): a linear warm-up, then constant, or a half cosine down to 0."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(1, planned_steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_accelerator(precision: str = "fp32", encoder: str = "lstm") -> Accelerator:
    """What runs a training on the devices and processes at hand, in a recipe's precision.

    Args:
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``, see :func:`resolve_precision`
        encoder: the kind of encoder that is trained

    Raises:
        UserError: if there are more processes than GPUs
    """
    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if 0 < gpus < processes:
        raise UserError(
            f"{processes} processes were started on a machine with {gpus} GPU(s), and each needs one: start {gpus}, "
            "or hide the GPUs from them with CUDA_VISIBLE_DEVICES= (nothing)"
        )
    keep_freed_memory()
    # Its state is global and refuses another precision, which the next training of this process may want.
    AcceleratorState._reset_state()
    # While the main process builds a feature store, which may take hours, the others wait.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=1))
    return Accelerator(mixed_precision=resolve_precision(precision, encoder), kwargs_handlers=[patience])


def keep_freed_memory() -> None:
    """Let this process keep the memory of a batch for the next one.

    The C library (glibc) gives large blocks back to the system as soon as they are free, and every page of the next
    batch is then a page fault: a fifth of the time of a training step on a CPU. With other C libraries nothing happens.
    """
    trim_threshold, mmap_max = -1, -4  # from malloc.h
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)  # never


def give_back_freed_memory() -> None:
    """Give what is free back to the system, now and then: kept memory crumbles, as batches differ in size.

    Without it a training of a small model grew to 6 GB within an hour.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def resolve_precision(wanted: str, encoder: str = "lstm") -> str:
    """The name that accelerate gives a precision; ``auto`` is bf16 where the hardware trains the encoder faster in it.

    On a GPU that is not so of an LSTM: an NVIDIA H100 took 1.2 times as long in bf16 with batches of 960 s, and as long
    with batches of 3840 s.
    """
    if wanted == "auto":
        wanted = "bf16" if _is_faster_in_bf16(encoder) else "fp32"
    return {"bf16": "bf16", "fp32": "no"}[wanted]


def _is_faster_in_bf16(encoder: str) -> bool:
    if torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        return encoder != "lstm" and bool(torch.cuda.is_bf16_supported(including_emulation=False))
    with suppress(OSError):
        return processor_is_faster_in_bf16(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    return False


def processor_is_faster_in_bf16(cpuinfo: str) -> bool:
    """Whether a processor, as ``/proc/cpuinfo`` describes it, trains faster in bf16 than in fp32.

    AVX-512's instructions made a training step 1.5 times as fast on an AMD EPYC (Zen 4), and 0.6 times as fast on an
    Intel Xeon (Sapphire Rapids) whose AMX was hidden from a virtual machine.
    """
    words = set(cpuinfo.split())
    return "amx_bf16" in words or ("avx512_bf16" in words and "AuthenticAMD" in words)
