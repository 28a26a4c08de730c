"""A model that tells emotions apart: what the API and the page say of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from sa2sr.inference import load
from tests.conftest import CLASSES
from tests.serving.conftest import RandomModel, Server, Voice, serving
from tests.serving.test_page import browser, expect, opener, speech, upload  # noqa: F401
from tests.serving.test_predict import Wav
from tests.serving.test_stream import streamed

COLUMNS = ["emotion", *(f"emotion_{name}" for name in CLASSES)]


@pytest.fixture(scope="module")
def telling(random_model: RandomModel) -> Path:
    return random_model(heads=("emotion", "category"), gain=4)


@pytest.fixture(scope="module")
def categories(telling: Path) -> Iterator[Server]:
    with serving(telling) as running:
        yield running


def test_every_way_to_ask_gives_the_categories_of_offline_prediction(
    categories: Server, telling: Path, wav: Wav, voice: Voice, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(content := wav(3))
    (offline,) = load(telling, engine="onnx").predict(tmp_path / "a.wav")
    with categories.client() as client:
        assert client.get("/v1/model").json()["categories"] == list(CLASSES)
        answers: list[httpx.Response] = [
            client.post("/v1/predict", content=content),
            client.post("/v1/batch", files=[("files", ("a.wav", content))]),
        ]
    for answer in answers:
        (row,) = answer.json()["rows"]
        assert row["emotion"] == offline.emotion == max(CLASSES, key=lambda name: float(row[f"emotion_{name}"]))
        assert {name: row[f"emotion_{name}"] for name in CLASSES} == pytest.approx(offline.probabilities, abs=1e-5)
    pcm = (voice(3) * 32767).astype("<i2").tobytes()
    start = {"rate": 16_000, "window": 1, "hop": 1}
    rows = [each for each in streamed(categories, start, iter([pcm])) if "activation" in json.dumps(each)]
    assert any(set(COLUMNS) <= set(each) or set(COLUMNS) <= set(each.get("row", {})) for each in rows), rows


def test_the_page_names_the_most_probable_category(
    browser: "playwright.Browser",  # noqa: F811, F821
    categories: Server,
    telling: Path,
    speech: Path,  # noqa: F811
) -> None:
    rows = load(telling, engine="onnx").predict(speech, window=2, hop=0.5).rows
    means = {name: float(np.mean([row.probabilities[name] for row in rows])) for name in CLASSES}
    best = max(means, key=lambda name: means[name])
    with opener(browser, categories.url) as open_page:
        card = upload(open_page(), speech)
        shown = f"{best} ({100 * means[best]:.0f} %)"
        expect(card.locator(".meta")).to_contain_text(shown)
        expect(card.locator(".chart")).to_have_attribute("aria-label", re.compile(re.escape(f"most of all {shown}")))
