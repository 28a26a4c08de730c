"""Pre-trained encoders beside the library that they come from, whatever the lengths, the padding and the company."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from sa2sr.config import EncoderSettings, ModelSettings, load_recipe
from sa2sr.errors import ModelError, RecipeError
from sa2sr.network.model import SpeechModel, load_model, save_model
from sa2sr.network.pretrained.encoder import PretrainedEncoder
from sa2sr.network.pretrained.loading import frontend_of, pretrained_configuration
from sa2sr.network.pretrained.whisper import log_mel
from tests.conftest import PRETRAINED, PretrainedFolder

LENGTHS = [9_000, 20_000, 250, 16_001]  # samples; one is too short for a state, and two for a piece of tiny Whisper


def make_settings(folder: Path, **changes: Any) -> EncoderSettings:
    settings = EncoderSettings.model_validate({"kind": "transformers", "name": str(folder)} | changes)
    return settings.with_configuration(pretrained_configuration(str(folder)))


def make_encoder(folder: Path, **changes: Any) -> PretrainedEncoder:
    torch.manual_seed(1)
    encoder = PretrainedEncoder(make_settings(folder, **changes)).eval()
    encoder.load_pretrained(str(folder))
    if encoder.mixture is not None:
        encoder.mixture.data = torch.tensor([0.5, -1.0, 0.3, 0.8])
    return encoder


def make_waveforms(lengths: list[int] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [0.1 + 0.3 * torch.randn(length, generator=generator) for length in lengths]


def padded(waveforms: list[Tensor], padding: int = 0, fill: float = 0.0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(each) for each in waveforms])
    frames = torch.full((len(waveforms), int(lengths.max()) + padding, 1), fill)
    for row, each in zip(frames, waveforms, strict=True):
        row[: len(each), 0] = each
    return frames, lengths


@torch.no_grad()
def by_the_library(folder: Path, waveform: Tensor) -> list[Tensor]:
    """What the library makes of an utterance alone, as its documentation says to: (T', H) of each layer."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    if model.config.model_type == "whisper":
        encoder, features = model.get_encoder(), transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1)
        pieces = []
        for piece in waveform.split(16_000):
            inputs = features(piece.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
            given = encoder(inputs, output_hidden_states=True)
            pieces.append([*given.hidden_states[:-1], given.last_hidden_state])
        steps = -(-len(waveform) // 320)
        return [torch.cat([each[0] for each in layer])[:steps] for layer in zip(*pieces, strict=True)]
    inputs = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    given = model(inputs, output_hidden_states=True)
    return [each[0] for each in (*given.hidden_states[:-1], given.last_hidden_state)]


@pytest.mark.parametrize("name", PRETRAINED)
def test_states_are_those_of_the_library(name: str, pretrained_folder: PretrainedFolder) -> None:
    folder, waveforms = pretrained_folder(name), [each for each in make_waveforms() if len(each) > 400]
    weighted, last = make_encoder(folder), make_encoder(folder, readout="last")
    assert weighted.mixture is not None
    frames, lengths = padded(waveforms, padding=3_000, fill=7.0)
    with torch.no_grad():
        means, lasts, steps = weighted(frames, lengths), last(frames, lengths), weighted.state_lengths(lengths)
    for mean, of_last, count, waveform in zip(means, lasts, steps.tolist(), waveforms, strict=True):
        layers = by_the_library(folder, waveform)
        assert {len(each) for each in layers} == {count}
        shares = weighted.mixture.detach().exp() / weighted.mixture.detach().exp().sum()
        expected = sum(share * each for share, each in zip(shares, layers, strict=True))
        assert isinstance(expected, Tensor)
        torch.testing.assert_close(mean[:count], expected, rtol=2e-4, atol=2e-4)
        torch.testing.assert_close(of_last[:count], layers[-1], rtol=2e-4, atol=2e-4)
        assert not mean[count:].any()
        assert expected.std(0).max() > 0.02  # if all were the same, the equality would mean nothing


@pytest.mark.parametrize("name", PRETRAINED)
def test_neither_padding_nor_company_matters(name: str, pretrained_folder: PretrainedFolder) -> None:
    encoder, waveforms = make_encoder(pretrained_folder(name)), make_waveforms()
    frames, lengths = padded(waveforms, padding=5_000, fill=-3.0)
    with torch.no_grad():
        together, steps = encoder(frames, lengths), encoder.state_lengths(lengths)
        for row, waveform in enumerate(waveforms):
            alone = encoder(*padded([waveform]))[0]
            assert len(alone) == steps[row] >= 1
            torch.testing.assert_close(together[row, : steps[row]], alone, rtol=1e-4, atol=1e-4)
            assert not together[row, steps[row] :].any()


def test_the_library_alone_hears_the_company_through_its_group_norm(pretrained_folder: PretrainedFolder) -> None:
    """Why there is a norm of our own: with the library's, and its attention mask, padding changes the states."""
    folder = pretrained_folder("wavlm")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    (waveform,) = make_waveforms([9_000])
    inputs = ((waveform - waveform.mean()) / waveform.var(correction=0).add(1e-7).sqrt())[None]
    filled = torch.nn.functional.pad(inputs, (0, 9_000))
    mask = (torch.arange(18_000) < 9_000).long()[None]
    with torch.no_grad():
        alone = model(inputs).last_hidden_state
        beside = model(filled, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
    assert (alone - beside).abs().max() > 0.05


def test_batch_norm_is_refused(pretrained_folder: PretrainedFolder) -> None:
    configuration = pretrained_configuration(str(pretrained_folder("hubert"))) | {"conv_pos_batch_norm": True}
    with pytest.raises(ModelError, match="its states depend on the batch"):
        PretrainedEncoder(make_settings(pretrained_folder("hubert")).with_configuration(configuration))


@pytest.mark.parametrize("filters", [80, 128])
def test_whispers_features(filters: int) -> None:
    waveforms = torch.stack(make_waveforms([48_000, 48_000])) * torch.tensor([[1.0], [1e-4]])
    waveforms[0, 20_000:] = 0
    extractor = transformers.WhisperFeatureExtractor(feature_size=filters, chunk_length=3)
    expected = extractor([*waveforms.numpy()], sampling_rate=16_000, return_tensors="pt").input_features
    torch.testing.assert_close(log_mel(waveforms, filters), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_front_end_has_the_geometry_of_the_states(name: str, pretrained_folder: PretrainedFolder) -> None:
    encoder = make_encoder(pretrained_folder(name))
    frontend = frontend_of(encoder.configuration)
    assert (frontend.kind, frontend.sampling_rate, frontend.step_ms, frontend.dimension) == ("waveform", 16_000, 20, 1)
    for samples in (400, 719, 720, 6_399, 6_400, 16_000, 33_333):
        states = int(encoder.state_lengths(torch.tensor([samples])))
        assert states - (name == "whisper") <= frontend.states(samples / 16_000) <= states


# --- Learning ---------------------------------------------------------------------------------------------------------


def learnt(encoder: PretrainedEncoder) -> set[str]:
    """The weights that get a gradient other than 0."""
    encoder.train()
    torch.manual_seed(0)
    frames, lengths = padded(make_waveforms([9_000, 7_000]))
    states = encoder(frames, lengths)
    (states * torch.randn(states.shape)).sum().backward()
    return {n for n, weights in encoder.named_parameters() if weights.grad is not None and weights.grad.any()}


@pytest.mark.parametrize("name", PRETRAINED)
def test_parts_can_be_frozen(name: str, pretrained_folder: PretrainedFolder) -> None:
    features = "conv1" if name == "whisper" else "feature_extractor"
    layers = "model.layers." if name == "whisper" else "encoder.layers."
    everything = learnt(make_encoder(pretrained_folder(name), freeze="none"))
    above_features = learnt(make_encoder(pretrained_folder(name), freeze="features"))
    above_one = learnt(make_encoder(pretrained_folder(name), freeze=1))
    assert any(features in each for each in everything)
    assert not any(features in each for each in above_features)
    assert any(f"{layers}0." in each for each in above_features)
    assert "mixture" in above_one < above_features < everything
    assert not any(f"{layers}0." in each for each in above_one)
    assert {f"{layers}{n}." in each for n in (1, 2) for each in above_one} == {True, False}
    assert learnt(make_encoder(pretrained_folder(name), freeze="all")) == {"mixture"}
    with pytest.raises(ModelError, match=r"encoder\.freeze is 4, but the encoder has 3 layers"):
        make_encoder(pretrained_folder(name), freeze=4)


@pytest.mark.parametrize("name", ["wavlm", "whisper"])
def test_what_is_frozen_has_no_dropout(name: str, pretrained_folder: PretrainedFolder) -> None:
    frames, lengths = padded(make_waveforms([9_000]))
    noisy, still = (make_encoder(pretrained_folder(name), freeze=freeze).train() for freeze in ("none", "all"))
    for encoder in (noisy, still):
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
            elif isinstance(getattr(module, "dropout", None), float):  # how Whisper keeps its
                module.dropout = 0.5
    assert not torch.equal(noisy(frames, lengths), noisy(frames, lengths))
    assert torch.equal(still(frames, lengths), still(frames, lengths))


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "whisper"])
def test_checkpointing_changes_no_gradient(name: str, pretrained_folder: PretrainedFolder) -> None:
    frames, lengths = padded(make_waveforms([9_000, 7_000]))
    gradients = []
    for checkpointing in (False, True):
        encoder = make_encoder(pretrained_folder(name), freeze="none", checkpointing=checkpointing).train()
        torch.manual_seed(3)
        encoder(frames, lengths).square().sum().backward()
        gradients.append({n: w.grad for n, w in encoder.named_parameters() if w.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert gradient is not None
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("name", PRETRAINED)
def test_adapters_change_nothing_at_first_and_are_all_that_learns(
    name: str, pretrained_folder: PretrainedFolder
) -> None:
    folder = pretrained_folder(name)
    plain, adapted = make_encoder(folder), make_encoder(folder, lora={"rank": 2})
    frames, lengths = padded(make_waveforms([9_000, 7_000]))
    with torch.no_grad():
        torch.testing.assert_close(adapted(frames, lengths), plain(frames, lengths))
    adapters = {n: w for n, w in adapted.named_parameters() if ".lora_" in n}
    assert len(adapters) == 3 * 2 * 2  # layers, linear layers, matrices
    assert {n for n, w in adapted.named_parameters() if w.requires_grad} == {"mixture", *adapters}
    for weights in adapters.values():
        weights.data = torch.randn_like(weights)
    assert learnt(adapted) == {"mixture", *adapters}  # of the last layer too, and of every linear layer


def test_adapters_where_they_would_do_nothing_are_refused(pretrained_folder: PretrainedFolder) -> None:
    with pytest.raises(ModelError, match=r"'q_proj' is not a linear layer .* there are intermediate_dense, output_de"):
        make_encoder(pretrained_folder("wavlm"), lora={"beside": ["q_proj"]})


# --- Model folders ----------------------------------------------------------------------------------------------------


def make_model(folder: Path, **changes: Any) -> SpeechModel:
    encoder = make_settings(folder, **changes)
    assert encoder.configuration is not None
    tasks = {"ctc": {}, "sentiment": {"units": 5}, "emotion": {"channels": 8, "heads": 2}}
    values = {"encoder": encoder, "frontend": frontend_of(encoder.configuration), "objectives": tasks, "scale": {}}
    torch.manual_seed(0)
    model = SpeechModel(ModelSettings.model_validate(values))
    model.load_pretrained_encoder(str(folder))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("changes", [{}, {"readout": "last", "lora": {"rank": 2}}])
@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm", "whisper"])
def test_a_saved_model_needs_neither_hub_nor_folder(
    name: str, changes: dict[str, Any], pretrained_folder: PretrainedFolder, tmp_path: Path
) -> None:
    folder = shutil.copytree(pretrained_folder(name), tmp_path / "original")
    model = make_model(folder, **changes)
    save_model(model, tmp_path / "model")
    shutil.rmtree(folder)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "config.yaml",
        "encoder.json",
        "model.safetensors",
    }
    loaded = load_model(tmp_path / "model")
    assert loaded.settings == model.settings
    assert loaded.settings.encoder.configuration == model.settings.encoder.configuration
    frames, lengths = padded(make_waveforms())
    states, steps = model.states(frames, lengths), model.state_lengths(lengths)
    again = loaded.states(frames, lengths)
    assert torch.equal(states, again)
    for task, other in zip(model.tasks().values(), loaded.tasks().values(), strict=True):
        for one, two in zip(task.predict(states, steps), other.predict(again, steps), strict=True):
            assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'; encoders can be wav2vec2, hubert, wavlm, whisper"),
        ({"hidden_size": 10**9}, "'hidden_size' is 1e"),
        ({"num_hidden_layers": 10**5}, "'num_hidden_layers' is 100000, which no encoder has"),
        ({"hidden_size": 15}, "cannot be built"),
        ({"hidden_act": "__import__"}, "cannot be built"),
        ({"hidden_size": 32}, "has shape"),
        ({"conv_dim": [1] * 20_000}, "'conv_dim' has 20,000 items"),
    ],
)
def test_a_hostile_architecture_is_refused(
    changes: dict[str, Any], message: str, pretrained_folder: PretrainedFolder, tmp_path: Path
) -> None:
    save_model(make_model(pretrained_folder("wavlm")), tmp_path)
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match=r"encoder\.json: cannot be read"):
        load_model(tmp_path)


def test_what_could_load_code_is_left_out(pretrained_folder: PretrainedFolder, tmp_path: Path) -> None:
    folder = shutil.copytree(pretrained_folder("wavlm"), tmp_path / "original")
    path = folder / "config.json"
    code = {"auto_map": {"AutoModel": "evil.Model"}, "attn_implementation": "evil/kernel", "_name_or_path": "/home/me"}
    path.write_text(json.dumps(json.loads(path.read_text()) | code))
    save_model(make_model(folder), tmp_path / "model")
    assert not code.keys() & json.loads((tmp_path / "model" / "encoder.json").read_text()).keys()


# --- Folders and the hub ----------------------------------------------------------------------------------------------


def test_pickles_are_refused(pretrained_folder: PretrainedFolder, tmp_path: Path) -> None:
    folder = shutil.copytree(pretrained_folder("wav2vec2"), tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"its weights cannot be loaded .* a folder needs config\.json and model\.s"):
        make_encoder(folder)
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"weights as a pickle \(pytorch_model\.bin\).* only safetensors are read"):
        make_encoder(folder)


def test_folders_that_lack_something(pretrained_folder: PretrainedFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder, and it is no hub id"):
        pretrained_configuration(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        pretrained_configuration(str(tmp_path))
    folder = shutil.copytree(pretrained_folder("wavlm"), tmp_path / "slow")
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"sampling_rate": 8_000}))
    with pytest.raises(ModelError, match="hears 8000 Hz"):
        pretrained_configuration(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ModelError, match=r"lacks encoder\.layers\.3"):
        make_encoder(folder)


def test_the_preprocessor_says_whether_waveforms_are_normalised(
    pretrained_folder: PretrainedFolder, tmp_path: Path
) -> None:
    folder = shutil.copytree(pretrained_folder("wavlm-layer"), tmp_path / "raw")
    frames, lengths = padded(make_waveforms([9_000]))
    with torch.no_grad():
        normalised = make_encoder(folder)
        assert torch.allclose(normalised(frames, lengths), normalised(3 * frames + 0.2, lengths), atol=1e-4)
        preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor | {"do_normalize": False}))
        raw = make_encoder(folder)
        assert not torch.allclose(raw(frames, lengths), raw(3 * frames + 0.2, lengths), atol=1e-2)


def test_without_a_network_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set\. .*'hf download somebody/wavlm' fills the cache"):
        pretrained_configuration("somebody/wavlm")


def test_a_hub_id_is_read_from_the_cache(
    pretrained_folder: PretrainedFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--somebody--wavlm" / "snapshots" / "0123456789"
    shutil.copytree(pretrained_folder("wavlm"), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    settings = EncoderSettings(kind="transformers", name="somebody/wavlm")
    encoder = PretrainedEncoder(settings.with_configuration(pretrained_configuration("somebody/wavlm"))).eval()
    encoder.load_pretrained("somebody/wavlm")
    other = make_encoder(pretrained_folder("wavlm"))
    for name, weights in encoder.backbone.state_dict().items():
        assert torch.equal(weights, other.backbone.state_dict()[name]), name


# --- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["encoder.kind=transformers"], "name must say which"),
        (["encoder.name=a/b"], "name and lora are of the kind transformers, not of lstm"),
        (["encoder={kind: transformers, name: a/b, direction: forward}"], "direction must be both"),
        (["encoder={kind: transformers, name: a/b, freeze: 0}"], "encoder.freeze"),
        (["encoder={kind: transformers, name: a/b, freeze: 2, lora: {}}"], r"freeze \(2\) is of no use with lora"),
        (["encoder={kind: transformers, name: a/b, lora: {rang: 2}}"], "rang: unknown key"),
        (["frontend.kind=waveform", "frontend.stack=1"], "encoder.kind lstm reads lfbe"),
        (
            ["encoder={kind: transformers, name: a/b}", "finetuning.objectives.emotion.inputs=[states, frames]"],
            "an encoder of waveforms has none",
        ),
    ],
)
def test_settings_that_cannot_work(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("sa2sr", changes)


def test_settings_have_the_keys_of_their_kind() -> None:
    lstm, wavlm = load_recipe("sa2sr").encoder, load_recipe("wavlm").encoder
    assert {"layers", "units"} <= lstm.model_dump().keys()
    assert not {"name", "lora"} & lstm.model_dump().keys()
    assert wavlm.model_dump().keys() == {"kind", "name", "readout", "freeze", "lora", "checkpointing"}
    assert EncoderSettings.model_validate(wavlm.model_dump()).model_dump() == wavlm.model_dump()
