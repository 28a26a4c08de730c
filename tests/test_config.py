"""Recipes and model settings: what is accepted, what is refused and how that is said."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2sr.config import (
    ALPHABET,
    ModelSettings,
    Recipe,
    load_recipe,
    read_yaml,
    shipped_recipes,
    to_yaml,
    validate,
)
from sa2sr.errors import RecipeError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(*overrides: str, recipe: str | Path = "sa2sr") -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, overrides)
    return str(error.value)


# --- The shipped recipes ----------------------------------------------------------------------------------------------


def test_shipped_names() -> None:
    assert {"sa2sr", "asr", "scratch"} <= set(shipped_recipes())


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_load_and_are_named_after_their_file(name: str) -> None:
    assert load_recipe(name).name == name
    assert load_recipe(f"{name}.yaml") == load_recipe(shipped_recipes()[name])


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_recipe_has_the_papers_front_end_encoder_and_regressor(name: str) -> None:
    recipe = load_recipe(name)
    frontend, encoder = recipe.frontend, recipe.encoder
    assert (frontend.sampling_rate, frontend.filters, frontend.window_ms, frontend.step_ms) == (16000, 40, 25, 10)
    assert (frontend.stack, frontend.dimension) == (3, 120)
    if not name.startswith("demo-"):  # whose network is small, to be trained in minutes
        predictive = recipe.pretraining is not None and recipe.pretraining.objectives.predicting_frames()
        # All are of the same size; one that predicts frames reads the past alone.
        wanted = ("lstm", "forward", 5, 328, 0) if predictive else ("lstm", "both", 5, 192, 0)
        if name in ("sa2sr-english", "from-default"):  # the shipped model, of half the size
            wanted = ("lstm", "both", 3, 192, 0)
        if "-conformer" in name:
            wanted = ("conformer", "both", 8, 144, 0.1)
        if encoder.kind != "transformers":  # of which the library knows the size
            assert (encoder.kind, encoder.direction, encoder.layers, encoder.units, encoder.dropout) == wanted
    assert (recipe.finetuning is None) == (recipe.regression is not None)
    if recipe.finetuning is None:
        return
    tasks = recipe.finetuning.objectives
    assert (tasks.emotion is None) == ("-speech-sentiment" in name)
    helps = name == "sa2sr-english"  # telling categories, which the shipped model then leaves to others
    assert (tasks.category is None) == ("-categories" not in name and not helps)
    for readout in filter(None, (tasks.emotion, tasks.category)):
        assert (readout.kernels, readout.strides, readout.channels) == ((6, 3), (3, 2), 64)
        assert (readout.negative_slope, readout.heads) == (0.5, 4)
        assert readout.weight == (0.5 if helps and readout is tasks.category else 1)
    assert recipe.finetuning.freeze_encoder == ("-frozen" in name)
    speeds = (0.9, 1.0, 1.1) if name == "sa2sr-english" else (1.0,)  # which has few actors
    assert recipe.finetuning.augmentation.speeds == speeds


@pytest.mark.parametrize("name", ["asr", "sa2sr"])
def test_pretraining_has_the_papers_values(name: str) -> None:
    stage = load_recipe(name).pretraining
    assert stage is not None
    weights = {task: objective.weight for task, objective in stage.objectives.active().items()}
    assert weights == ({"ctc": 1, "sentiment": 200} if name == "sa2sr" else {"ctc": 1})
    if stage.objectives.sentiment is not None:
        assert stage.objectives.sentiment.summariser == "lstm"
    assert (stage.augmentation.speeds, stage.augmentation.every_speed) == ((0.9, 1.0, 1.1), True)
    assert stage.augmentation.probability == 0.5
    assert stage.augmentation.time_masks > 0
    assert stage.augmentation.frequency_masks > 0
    optimiser = stage.optimiser
    assert (optimiser.kind, optimiser.rate, optimiser.betas) == ("adam", 5e-5, (0.9, 0.999))
    assert (optimiser.schedule, optimiser.weight_decay, optimiser.warmup_steps) == ("constant", 0, 0)
    assert stage.patience == 25
    assert stage.max_epochs >= 1000


def test_scratch_has_no_pretraining() -> None:
    assert load_recipe("scratch").pretraining is None


@pytest.mark.parametrize("name", ["asr", "sa2sr", "scratch"])
def test_small_variants_change_training_only(name: str) -> None:
    paper, small = load_recipe(name), load_recipe(f"{name}-small")
    assert (small.frontend, small.encoder) == (paper.frontend, paper.encoder)
    assert small.finetuning is not None
    assert paper.finetuning is not None
    assert small.finetuning.objectives == paper.finetuning.objectives
    assert small.finetuning.augmentation == paper.finetuning.augmentation
    if paper.pretraining is not None and small.pretraining is not None:
        assert small.pretraining.augmentation == paper.pretraining.augmentation
        assert small.pretraining.objectives.active().keys() == paper.pretraining.objectives.active().keys()


def test_alphabet_and_blank_make_29_characters() -> None:
    assert 1 + len(ALPHABET) == 29
    assert len({*ALPHABET}) == 28


# --- Mistakes are named -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "named", "allowed"),
    [
        ("pretraining.optimiser.learning_rate=1", "pretraining.optimiser.learning_rate: unknown key", "rate, encoder_"),
        ("colour=red", "colour: unknown key", "frontend, encoder, pretraining, finetuning"),
        (
            "pretraining.objectives.emotions=1",
            "pretraining.objectives.emotions: unknown key",
            "ctc, sentiment, apc, cpc, speaker, emotion",
        ),
        ("pretraining.optimiser.kind=sgd", "pretraining.optimiser.kind", "'adam' or 'adamw'"),
        ("encoder.layers=many", "encoder.layers", "valid integer"),
        ("encoder.layers=2.5", "encoder.layers", "valid integer"),
        ("encoder.layers=0", "encoder.layers", "greater than or equal to 1"),
        ("encoder.dropout=1", "encoder.dropout", "less than 1"),
        ("encoder.layers=true", "encoder.layers", "must not be true or false"),
        ("pretraining.augmentation.speeds=[1.0, yes]", "pretraining.augmentation.speeds", "must not be true or false"),
        ("name=no", "name", "must not be true or false"),
        ("pretraining.optimiser.rate=-1", "pretraining.optimiser.rate", "greater than 0"),
        ("pretraining.optimiser.rate=.nan", "pretraining.optimiser.rate", "finite"),
        ("pretraining.optimiser.rate=.inf", "pretraining.optimiser.rate", "finite"),
        ("pretraining.optimiser.betas=[0.9, 1]", "pretraining.optimiser.betas.1", "less than 1"),
        ("pretraining.augmentation.speeds=fast", "pretraining.augmentation.speeds", "list"),
        ("pretraining.augmentation.speeds=[9]", "pretraining.augmentation.speeds.0", "less than or equal to 4"),
        ("pretraining.tensorboard=5", "pretraining.tensorboard", "valid boolean"),
        ("encoder=large", "encoder", "kind, direction, layers, units, dropout"),
        ("pretraining.objectives.ctc.weight=heavy", "pretraining.objectives.ctc.weight", "valid number"),
        ("name=../../etc", "name", "pattern"),
        ("name=..", "name", "pattern"),
        ("seed=-1", "seed", "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_is_allowed(override: str, named: str, allowed: str) -> None:
    message = refused(override)
    assert "sa2sr.yaml" in message
    assert named in message
    assert allowed in message


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["pretraining=null", "finetuning=null"], "needs a pretraining or a finetuning stage"),
        (["pretraining=null", "finetuning.freeze_encoder=true"], "frozen random weights learn nothing"),
        (["pretraining.freeze_encoder=true"], "nothing to pre-train"),
        (["finetuning.objectives={ctc: 1}"], "finetuning.objectives needs emotion"),
        (["finetuning.objectives.category.classes=[angry]"], "two or more, each named once, not angry"),
        (["finetuning.objectives.category.classes=[sad, sad]"], "two or more, each named once, not sad, sad"),
        (["finetuning.objectives.category.classes=[sad, truth]"], "'truth' would be taken for what is true"),
        (["finetuning.objectives.category.classes=[Sad, Happy]"], "finetuning.objectives.category.classes.0"),
        (["finetuning.objectives={ctc: 1, emotion: 0}"], "finetuning.objectives needs emotion"),
        (["pretraining.objectives=null"], "pretraining.objectives"),
        (["pretraining.objectives.ctc=null", "pretraining.objectives.sentiment=null"], "needs at least one of ctc"),
        (["pretraining.objectives={ctc: 0, sentiment: 0}"], "weight above 0"),
        (["frontend.window_ms=5"], "window_ms (5) must be at least step_ms (10)"),
        (["finetuning.objectives.emotion.heads=3"], "channels (64) must be a multiple of heads (3)"),
        (["pretraining.augmentation.speeds=[]"], "at least one factor"),
        (["pretraining.augmentation.speeds=[1, 1.0]"], "must differ"),
        (["encoder.freeze=all"], "encoder.freeze (all): an encoder of the kind lstm has no such key"),
        (["encoder.heads=2", "encoder.kernel=5"], "encoder.heads (2), encoder.kernel (5): an encoder of the kind lstm"),
        (
            ["encoder.kind=transformers", "encoder.name=a/b", "encoder.layers=3"],
            "encoder.layers (3): an encoder of the kind transformers has no such key",
        ),
        (
            ["encoder.kind=conformer", "encoder.readout=last"],
            "encoder.readout (last): an encoder of the kind conformer",
        ),
        (["pretraining.batches.shortest=40"], "shortest (40 s) must be below longest (35 s)"),
    ],
)
def test_impossible_combinations_are_refused(overrides: list[str], said: str) -> None:
    assert said in refused(*overrides)


def test_all_mistakes_are_listed_at_once_but_not_thousands() -> None:
    message = refused("encoder.layers=x", "encoder.units=y", "seed=z")
    assert all(key in message for key in ("encoder.layers", "encoder.units", "seed"))
    many = refused("frontend={" + ", ".join(f"k{i}: 1" for i in range(500)) + "}")
    assert "and 480 more" in many
    assert len(many) < 5000


def test_a_message_shows_the_beginning_of_a_long_value_and_no_control_characters() -> None:
    assert len(refused(f"encoder.layers={'x' * 5000}")) < 300
    assert "\x1b" not in refused(r'frontend={"\e[31mred": 1}')


@pytest.mark.parametrize("values", [None, [], "text", 5, {1: 2}, {"name": {}}])
def test_settings_of_another_shape_are_refused(values: Any) -> None:
    with pytest.raises(RecipeError):
        validate(Recipe, values, "here")


# --- Overrides --------------------------------------------------------------------------------------------------------


def test_overrides_set_values_in_yaml() -> None:
    recipe = load_recipe(
        "sa2sr",
        [
            "seed=7",
            "pretraining.optimiser.rate=5e-4",  # which YAML reads as text
            "pretraining.augmentation.speeds=[0.8, 1.2]",
            "pretraining.optimiser.clip=null",
            "pretraining.train=[a.jsonl, b.jsonl.gz]",
            "pretraining.dev=a b=c.jsonl",
            "pretraining.objectives.ctc.weight=2",  # over the short form
            "finetuning=null",
        ],
    )
    stage = recipe.pretraining
    assert stage is not None
    assert recipe.seed == 7
    assert stage.optimiser.rate == 5e-4
    assert stage.augmentation.speeds == (0.8, 1.2)
    assert stage.optimiser.clip is None
    assert stage.train == (Path("a.jsonl"), Path("b.jsonl.gz"))
    assert stage.dev == (Path("a b=c.jsonl"),)
    assert stage.objectives.ctc is not None
    assert stage.objectives.ctc.weight == 2
    assert recipe.finetuning is None


def test_later_overrides_win() -> None:
    assert load_recipe("sa2sr", ["seed=1", "seed=2"]).seed == 2


def test_an_override_can_make_a_stage_that_the_recipe_lacks() -> None:
    stage = load_recipe("scratch", ["pretraining.objectives.ctc=1"]).pretraining
    assert stage is not None
    assert list(stage.objectives.active()) == ["ctc"]


@pytest.mark.parametrize("override", ["seed", "=3", ".seed=3", "pretraining..rate=1", ""])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    assert "key.sub=value" in refused(override)


def test_an_override_that_is_not_yaml_is_refused_with_its_text() -> None:
    assert "seed=[1" in refused("seed=[1")


# --- extends ----------------------------------------------------------------------------------------------------------


def test_extends_is_found_beside_the_file_then_among_the_shipped(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "extends: asr\nseed: 3\nencoder: {layers: 2}\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\nname: child\nencoder: {units: 8}\n")
    recipe = load_recipe(child)
    assert (recipe.name, recipe.seed, recipe.encoder.layers, recipe.encoder.units) == ("child", 3, 2, 8)
    assert recipe.pretraining == load_recipe("asr").pretraining


def test_null_removes_what_an_ancestor_sets(tmp_path: Path) -> None:
    text = "extends: sa2sr\npretraining: {objectives: {sentiment: null}, optimiser: {clip: null}}\nfinetuning: null\n"
    recipe = load_recipe(write(tmp_path / "child.yaml", text))
    assert recipe.finetuning is None
    assert recipe.pretraining is not None
    assert list(recipe.pretraining.objectives.active()) == ["ctc"]
    assert recipe.pretraining.optimiser.clip is None


def test_lists_are_replaced_not_merged(tmp_path: Path) -> None:
    child = write(tmp_path / "child.yaml", "extends: sa2sr\npretraining: {augmentation: {speeds: [1.0]}}\n")
    stage = load_recipe(child).pretraining
    assert stage is not None
    assert stage.augmentation.speeds == (1.0,)


def test_cycles_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: c.yaml\n")
    write(tmp_path / "c.yaml", "extends: a.yaml\n")
    assert "a.yaml -> b.yaml -> c.yaml -> a.yaml" in refused(recipe=tmp_path / "a.yaml")
    write(tmp_path / "self.yaml", "extends: self.yaml\n")
    assert "extends itself" in refused(recipe=tmp_path / "self.yaml")


@pytest.mark.parametrize("parent", ["5", "[a.yaml]", "nothing.yaml", "''"])
def test_a_parent_that_is_not_there_is_refused(tmp_path: Path, parent: str) -> None:
    refused(recipe=write(tmp_path / "child.yaml", f"extends: {parent}\n"))


# --- Files that are not recipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nothing", "a" * 5000, "folder/sa2sr", "sa2sr.json", "\0", ""])
def test_a_recipe_that_is_not_there_names_those_that_are(name: str) -> None:
    message = refused(recipe=name)
    assert "scratch" in message
    assert "sa2sr" in message


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",  # an alias
        "a: &a [&b [x], *b]",
        "seed: 1\nseed: 2\n",  # of which one would be lost
        "encoder: {layers: 1, layers: 2}",
        "!!python/object/apply:os.system ['true']",
        "seed: !!timestamp never",
        "seed: !!bool maybe",
        "seed: !!int ''",
        "seed: " + "9" * 5000,
        "seed: 2020-99-99",
        "{? [a] : 1}",
        "a: [",
        "\0",
        "[" * 90_000,
        "{a: " * 20_000,
        "- " * 40_000,
        "? " * 40_000,
        "".join(" " * i + "a:\n" for i in range(400)),
        "just text",
        "- a\n- b\n",
        "",
    ],
)
def test_files_that_are_no_recipes_are_refused_at_once(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "recipe.yaml", text)
    began = time.process_time()
    assert str(path) in refused(recipe=path)
    assert time.process_time() - began < 5


def test_large_files_and_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    large = write(tmp_path / "large.yaml", "# comment\n" * 20_000)
    assert "larger than" in refused(recipe=large)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(recipe=tmp_path / "bytes.yaml")
    with pytest.raises(RecipeError, match=r"missing\.yaml: cannot be read"):
        read_yaml(tmp_path / "missing.yaml")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(["name", "seed", "frontend", "encoder", "pretraining", "finetuning", "objectives", "ctc", "x"])


@settings(max_examples=50)
@given(st.dictionaries(_keys, _values | st.dictionaries(_keys, _values)))
def test_whatever_is_written_gives_a_recipe_or_a_recipe_error(values: dict[str, Any]) -> None:
    with suppress(RecipeError):
        assert isinstance(validate(Recipe, values, "here"), Recipe)


@pytest.mark.parametrize("task", ["apc", "cpc"])
@pytest.mark.parametrize("stage", ["pretraining", "finetuning"])
def test_what_predicts_frames_needs_an_encoder_that_has_not_read_them(task: str, stage: str) -> None:
    changes = [f"{stage}.objectives.{task}=0.5", f"{stage}.augmentation.probability=0"]
    message = refused(*changes)
    assert f"{stage}.objectives.{task}" in message
    assert "encoder.direction must be forward, not both" in message
    assert load_recipe("sa2sr", [*changes, "encoder.direction=forward"]).encoder.direction == "forward"
    assert load_recipe("sa2sr", [f"{stage}.objectives.{task}=0"]).encoder.direction == "both"  # not trained


def test_masked_frames_are_not_what_is_predicted() -> None:
    message = refused("pretraining.augmentation.probability=0.5", recipe="apc")
    assert "pretraining: objectives.apc" in message
    assert "augmentation.probability must be 0" in message


# --- Writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_written_and_read_again_a_recipe_is_the_same(tmp_path: Path, name: str) -> None:
    odd = ["pretraining.train=[Möbius 'a'.jsonl, 'b: c.jsonl']", "pretraining.objectives.ctc=1"]
    recipe = load_recipe(name, odd)
    again = load_recipe(write(tmp_path / "recipe.yaml", to_yaml(recipe)))
    assert again == recipe
    assert to_yaml(again) == to_yaml(recipe)


def test_models_with_keys_of_another_kind_of_encoder_load_and_recipes_that_change_its_kind_do() -> None:
    written = {"kind": "lstm", "layers": 2, "heads": 2, "freeze": "all"}  # as could be said once
    assert ModelSettings.model_validate({"encoder": written, "objectives": {"ctc": 1}}).encoder.layers == 2
    assert load_recipe("sa2sr-conformer", ["encoder.kind=lstm"]).encoder.heads == 4  # the default
    assert load_recipe("wavlm", ["encoder.layers=5"]).encoder.name


def test_model_settings_round_trip(tmp_path: Path) -> None:
    model = ModelSettings.model_validate(
        {"objectives": {"ctc": 1, "emotion": {"channels": 8}}, "scale": {"name": "0-100 ñ", "low": 0, "high": 100}}
    )
    path = write(tmp_path / "config.yaml", to_yaml(model))
    assert validate(ModelSettings, read_yaml(path), str(path)) == model


@pytest.mark.parametrize("scale", [{"low": 5, "high": 1}, {"name": ""}, {"name": "a\nb"}, {"low": 1, "high": 1}])
def test_a_scale_that_is_none_is_refused(scale: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="scale"):
        validate(ModelSettings, {"objectives": {"ctc": 1}, "scale": scale}, "here")
