"""Parameter groups and rates, precision, and memory that is kept from batch to batch."""

import platform
import resource
from pathlib import Path

import pytest
import torch

from sa2sr.config import EncoderSettings, FrontEnd, ModelSettings, Objectives, Optimiser
from sa2sr.errors import UserError
from sa2sr.network.model import SpeechModel
from sa2sr.training.optimisation import (
    give_back_freed_memory,
    keep_freed_memory,
    make_accelerator,
    make_optimiser,
    processor_is_faster_in_bf16,
    resolve_precision,
)


@pytest.fixture
def model() -> SpeechModel:
    return SpeechModel(
        ModelSettings(
            frontend=FrontEnd(filters=4),
            encoder=EncoderSettings(layers=1, units=4),
            objectives=Objectives.model_validate({"ctc": 1, "sentiment": {"weight": 0, "units": 4}}),
        )
    )


@pytest.mark.parametrize(("encoder_rate", "rates"), [(None, [0.5, 0.5]), (0.125, [0.125, 0.5])])
def test_encoder_and_tasks_have_their_rates_and_untrained_tasks_none(
    model: SpeechModel, encoder_rate: float | None, rates: list[float]
) -> None:
    optimiser = make_optimiser(model, Optimiser(rate=0.5, encoder_rate=encoder_rate))
    encoder, tasks = optimiser.param_groups
    assert [encoder["lr"], tasks["lr"]] == [encoder["full_rate"], tasks["full_rate"]] == rates
    assert {id(p) for p in encoder["params"]} == {id(p) for p in model.encoder.parameters()}
    assert {id(p) for p in tasks["params"]} == {id(p) for p in model.objectives["ctc"].parameters()}


def test_a_frozen_encoder_is_in_no_group(model: SpeechModel) -> None:
    model.freeze_encoder()
    (tasks,) = make_optimiser(model, Optimiser(rate=0.5)).param_groups
    assert tasks["lr"] == 0.5
    assert {id(p) for p in tasks["params"]} == {id(p) for p in model.objectives["ctc"].parameters()}


@pytest.mark.parametrize(("kind", "decoupled"), [("adam", False), ("adamw", True)])
def test_weight_decay_of_adamw_is_apart_from_the_gradient(model: SpeechModel, kind: str, decoupled: bool) -> None:
    settings = Optimiser.model_validate({"kind": kind, "rate": 0.1, "weight_decay": 0.5, "betas": [0.8, 0.9]})
    weights = model.objectives["ctc"].output.weight  # type: ignore[union-attr]
    before = weights.detach().clone()
    optimiser = make_optimiser(model, settings)
    weights.grad = torch.zeros_like(weights)
    optimiser.step()
    # Without a gradient AdamW shrinks weights by rate times decay; Adam takes its first step, of about the rate's size.
    decay = 0.5 * before
    expected = before - 0.1 * decay if decoupled else before - 0.1 * decay / (decay.abs() + 1e-8)
    assert torch.allclose(weights, expected, atol=1e-6)


def test_one_process_may_train_in_one_precision_after_another() -> None:
    assert [make_accelerator(name).mixed_precision for name in ("fp32", "bf16", "fp32")] == ["no", "bf16", "no"]
    assert resolve_precision("auto") in ("no", "bf16")


def test_an_lstm_is_not_faster_in_bf16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    assert [resolve_precision("auto", kind) for kind in ("lstm", "conformer", "transformers")] == ["no", "bf16", "bf16"]
    processors = Path("/proc/cpuinfo")
    on_this_machine = processors.exists() and processor_is_faster_in_bf16(processors.read_text())
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert resolve_precision("auto", "conformer") == ("bf16" if on_this_machine else "no")


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"2 processes .* 1 GPU\(s\).*: start 1, or hide .* CUDA_VISIBLE_DEVICES="):
        make_accelerator()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_kept_for_the_next_batch() -> None:
    keep_freed_memory()

    def faults_of_a_batch() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16_000_000)  # 64 MB, 16,000 pages of the usual size
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert min(faults_of_a_batch() for _ in range(8)) < 100  # without it, all of them


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_memory_can_be_given_back() -> None:
    keep_freed_memory()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    give_back_freed_memory()
    torch.ones(64_000_000)  # 256 MB
    kept = resident()
    give_back_freed_memory()
    assert kept - resident() > 200e6


@pytest.mark.parametrize(
    ("cpuinfo", "faster"),
    [
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_tile amx_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
        ("", False),
    ],
)
def test_bf16_is_chosen_where_it_is_faster(cpuinfo: str, faster: bool) -> None:
    assert processor_is_faster_in_bf16(cpuinfo) == faster
