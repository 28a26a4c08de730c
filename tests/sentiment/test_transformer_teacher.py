import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from sa2sr.errors import ModelError, UserError
from sa2sr.sentiment import teacher_from_name
from sa2sr.sentiment.teachers import Teacher, natural_case
from sa2sr.sentiment.transformer import TransformerTeacher, label_order, preprocess

SENTENCES = [
    "What a lovely day",
    "no",
    "I never said that, did I? It was you who said it, and you said it more than once!",
    "the door is open",
    "",
    "Oh my God, he's lost it. He's totally lost it.",
    "it rains " * 40,  # longer than the model's 30 tokens
    "naïve café 😀",
]
ID2LABEL = {0: "Positive", 1: "negative", 2: "NEU"}  # neither the order nor the spelling of ours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa of random weights and its byte-level BPE."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )
    config = transformers.RobertaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=32,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.6,  # so that texts differ in their probabilities
        id2label=ID2LABEL,
        label2id={label: number for number, label in ID2LABEL.items()},
    )
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("models") / "tiny"
    transformers.RobertaForSequenceClassification(config).save_pretrained(path)
    fast.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Teacher:
    return teacher_from_name(f"transformers:{folder}", batch_size=3)


def edited(folder: Path, target: Path, file: str, **changes: Any) -> Path:
    """A copy of a model with a changed JSON file; None removes a key."""
    shutil.copytree(folder, target)
    values = json.loads((target / file).read_text())
    values.update(changes)
    (target / file).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return target


def one_at_a_time(folder: Path, texts: list[str]) -> np.ndarray:
    """Negative, neutral, positive, without batches, padding or this package."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    network = transformers.RobertaForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        ids = ids if len(ids) <= 30 else [*ids[:29], 2]
        logits = network(torch.tensor([ids])).logits[0].detach().double().numpy()
        powers = np.exp(logits - logits.max())
        positive, negative, neutral = powers / powers.sum()
        rows.append([negative, neutral, positive])
    return np.array(rows)


def test_equals_the_plain_model_on_one_text_at_a_time(teacher: Teacher, folder: Path) -> None:
    probabilities = teacher.probabilities(SENTENCES)
    assert probabilities.shape == (len(SENTENCES), 3)
    assert probabilities.dtype == np.float32
    expected = one_at_a_time(folder, SENTENCES)
    assert expected.std(axis=0).min() > 0.05  # else the next line would prove little
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_make_no_difference(teacher: Teacher, folder: Path, batch_size: int) -> None:
    other = TransformerTeacher(folder, batch_size=batch_size)
    np.testing.assert_allclose(other.probabilities(SENTENCES), teacher.probabilities(SENTENCES), atol=1e-5)
    assert other.probabilities([]).shape == (0, 3)


def test_mentions_links_and_capitals_are_preprocessed(teacher: Teacher) -> None:
    raw = ["@ann see https://x.org/y?z now", "WHAT A DAY", "half a pair \ud83d"]
    prepared = ["@user see http now", "what a day", "half a pair ?"]
    np.testing.assert_array_equal(teacher.probabilities(raw), teacher.probabilities(prepared))


def test_preprocessing() -> None:
    assert preprocess("@bob, go to http://a.b (@ home) mail a@b.c") == "@user go to http (@ home) mail a@b.c"
    assert natural_case("MR. O'NEIL, 2 p.m.") == "MR. O'NEIL, 2 p.m."
    assert natural_case("MR. O'NEIL, 2 P.M.") == "mr. o'neil, 2 p.m."


def test_name_is_that_of_the_model_and_its_weights(teacher: Teacher, folder: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(folder, tmp_path / "tiny")
    assert teacher.name.startswith("transformers:tiny@")
    assert TransformerTeacher(moved).name == teacher.name
    network = transformers.RobertaForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        network.classifier.out_proj.bias[0] += 0.5
    network.save_pretrained(moved)
    assert TransformerTeacher(moved).name != teacher.name


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["negative", "neutral", "positive"], [0, 1, 2]),
        (["POS", "NEG", "NEU"], [1, 2, 0]),
        (["Neutral", " Positive ", "Negative"], [2, 0, 1]),
    ],
)
def test_label_order_is_read_by_name(labels: list[str], order: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert label_order(labels, "model") == order


def test_numbered_labels_are_taken_for_tweetevals_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="does not name its outputs; they are taken for negative, neutral, positive"):
        assert label_order(["LABEL_0", "LABEL_1", "LABEL_2"], "model") == [0, 1, 2]


@pytest.mark.parametrize(
    "labels",
    [
        ["NEGATIVE", "POSITIVE"],
        ["LABEL_0", "LABEL_1"],
        ["LABEL_2", "LABEL_1", "LABEL_0"],
        ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"],
        ["negative", "negative", "positive"],
        ["negative", "neutral", "positive", "mixed"],
        [],
    ],
)
def test_other_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(ModelError, match="negative, neutral and positive"):
        label_order(labels, "model")


def test_labels_can_be_given(folder: Path, teacher: Teacher, tmp_path: Path) -> None:
    numbered = {"id2label": {str(n): f"LABEL_{n}" for n in range(3)}, "label2id": {f"LABEL_{n}": n for n in range(3)}}
    unnamed = edited(folder, tmp_path / "unnamed", "config.json", **numbered)
    named = TransformerTeacher(unnamed, labels=["positive", "negative", "neutral"])
    np.testing.assert_allclose(named.probabilities(SENTENCES), teacher.probabilities(SENTENCES), atol=1e-5)
    with pytest.warns(UserWarning, match="unnamed: does not name its outputs"):
        guessed = TransformerTeacher(unnamed)
    expected = teacher.probabilities(SENTENCES)[:, [2, 0, 1]]
    np.testing.assert_allclose(guessed.probabilities(SENTENCES), expected, atol=1e-5)


def test_a_model_without_a_classifier_is_refused(folder: Path, tmp_path: Path) -> None:
    network = transformers.RobertaForSequenceClassification.from_pretrained(folder)
    bare = edited(folder, tmp_path / "bare", "config.json")
    network.roberta.save_pretrained(bare)
    values = json.loads((folder / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"bare: lacks trained weights \(classifier"):
        TransformerTeacher(bare)


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    pickled = edited(folder, tmp_path / "pickled", "config.json")
    weights = transformers.RobertaForSequenceClassification.from_pretrained(folder).state_dict()
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled: cannot be loaded .*model\.safetensors"):
        TransformerTeacher(pickled)


def test_code_of_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    changes = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForSequenceClassification": "own.M"}}
    own = edited(folder, tmp_path / "own", "config.json", **changes)
    (own / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match="own: cannot be loaded"):
        TransformerTeacher(own)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_damaged_weights_are_named(folder: Path, tmp_path: Path, content: bytes) -> None:
    damaged = edited(folder, tmp_path / "damaged", "config.json")
    (damaged / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged: cannot be loaded"):
        TransformerTeacher(damaged)


def test_more_tokens_than_embeddings_are_refused(folder: Path, tmp_path: Path) -> None:
    other = edited(folder, tmp_path / "other", "config.json")
    tokenizer = transformers.AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["zzzz", "yyyy"])
    tokenizer.save_pretrained(other)
    with pytest.raises(ModelError, match="its weights know only"):
        TransformerTeacher(other)


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", "../up"])
def test_folders_that_do_not_exist(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        TransformerTeacher(name)


def test_hub_models_that_are_not_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"nobody/nothing-at-all: cannot be loaded .* while HF_HUB_OFFLINE is set"):
        TransformerTeacher("nobody/nothing-at-all")


def test_batch_size_must_be_positive(folder: Path) -> None:
    with pytest.raises(UserError, match="batch size 0"):
        TransformerTeacher(folder, batch_size=0)
