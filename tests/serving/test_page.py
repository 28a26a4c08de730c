"""The page in Chromium, with a file in place of the microphone."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sa2sr.config import DIMENSIONS
from sa2sr.inference import Model
from tests.serving.conftest import Server, Voice, serving

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

SECONDS = 5.0
TOKEN = "not-a-secret-0123456789"
Page = "playwright.Page"
expect = playwright.expect
expect.set_options(timeout=60_000)  # of milliseconds: other work may keep the machine busy


@pytest.fixture(scope="module")
def speech(voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "a call.wav"
    soundfile.write(path, voice(SECONDS, 3), 16_000)
    return path


@pytest.fixture(scope="module")
def browser(speech: Path) -> Iterator["playwright.Browser"]:
    if CHROMIUM is None:
        pytest.skip("the page is tested in Chromium, which is not installed")
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu", "dev-shm-usage")
    arguments = [
        "--no-sandbox",
        "--no-first-run",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={speech}",
        *(f"--disable-{name}" for name in quiet),
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


Open = Callable[..., "playwright.Page"]


@contextmanager
def opener(browser: "playwright.Browser", url: str) -> Iterator[Open]:
    """Open the page; at the end nothing may have failed on it, and nothing been asked of others."""
    pages: list[playwright.Page] = []
    faults: list[str] = []
    asked: list[str] = []

    def open_(width: int = 1200, scheme: str = "light", microphone: bool = True) -> "playwright.Page":
        permissions = ["microphone"] if microphone else []
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, permissions=permissions)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.context.close()
    # What a server refuses is logged by the browser, whatever the page makes of it, and so is that there is none.
    assert [each for each in faults if not each.startswith("Failed to load resource")] == []
    assert all(each.startswith((url, "blob:", "data:")) for each in asked), asked


@pytest.fixture
def open_page(browser: "playwright.Browser", server: Server) -> Iterator[Open]:
    with opener(browser, server.url) as open_:
        yield open_


def upload(page: "playwright.Page", *files: Path, window: float = 2, hop: float = 0.5) -> "playwright.Locator":
    """Give the page files, and wait for the card of the last."""
    expect(page.locator("#model")).to_contain_text("rates from")
    page.fill("#window", str(window))
    page.fill("#hop", str(hop))
    page.set_input_files("#files", list(files))
    card = page.locator(".card").last
    expect(card.locator("h2")).to_have_text(files[-1].name)
    expect(card).not_to_have_class(re.compile("busy"))
    return card


def downloaded(card: "playwright.Locator") -> list[dict[str, str]]:
    with card.page.expect_download() as download:
        card.locator(".download").click()
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))


def test_a_file_gives_the_numbers_of_offline_prediction(open_page: Open, model: Model, speech: Path) -> None:
    page = open_page()
    card = upload(page, speech)
    offline = model.predict(speech, window=2, hop=0.5)
    expect(card.locator(".meta")).to_have_text(f"0:05 · {len(offline)} estimates")
    table = downloaded(card)
    assert list(table[0]) == list(offline.columns)
    for name in ("start", "end", *DIMENSIONS):
        assert [float(row[name]) for row in table] == offline.column(name).tolist()
    assert {row["file"] for row in table} == {"a call.wav"}
    for name in DIMENSIONS:
        mean = f"{offline.column(name).mean():.1f}"
        expect(card.locator(f".{name} .mean")).to_have_text(mean)
        expect(page.locator("#status")).to_contain_text(f"{name} {mean}")
    card.locator("summary").click()
    assert card.locator("details tbody tr").count() == len(offline)


@pytest.mark.parametrize("scale", ["labels", "0-1"])
def test_lines_are_where_the_axes_say(open_page: Open, speech: Path, scale: str) -> None:
    page = open_page()
    expect(page.locator("#model")).to_contain_text("rates from")
    page.select_option("#scale", scale)
    card = upload(page, speech)
    low, high = (1.0, 7.0) if scale == "labels" else (0.0, 1.0)
    expect(card.locator("th.scale")).to_have_text(f"on {low:g} to {high:g}")
    row = downloaded(card)[3]  # of 1.5 to 3.5 s
    across = 2.5 / SECONDS
    find = """(over, [across, dimension]) => {
        const canvas = over.closest(".u-wrap").querySelector("canvas");
        const box = over.getBoundingClientRect(), outer = canvas.getBoundingClientRect();
        const x = Math.round((box.left - outer.left + across * box.width) * devicePixelRatio);
        const probe = document.createElement("i");
        probe.style.color = getComputedStyle(document.documentElement).getPropertyValue("--" + dimension);
        document.body.append(probe);
        const wanted = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
        probe.remove();
        const pixels = canvas.getContext("2d").getImageData(x - 1, 0, 3, canvas.height).data;
        const rows = new Set();
        for (let i = 0; i < pixels.length; i += 4) {
            if (wanted.every((part, j) => Math.abs(pixels[i + j] - part) < 3)) rows.add(Math.floor(i / 12));
        }
        const middle = [...rows].reduce((sum, y) => sum + y + 0.5, 0) / rows.size / devicePixelRatio;
        return 1 - (middle - (box.top - outer.top)) / box.height;
    }"""
    over = card.locator(".u-over")
    card.locator(".time").fill("5")  # so that its mark is not in the way
    for name in DIMENSIONS:
        drawn = low + over.evaluate(find, [across, name]) * (high - low)
        assert drawn == pytest.approx(float(row[name]), abs=0.05 * (high - low)), name
    # Pointing at the lines and at the waveform chooses the time that is there.
    box = over.bounding_box()
    assert box is not None
    for down in (box["height"] / 2, -40):
        page.mouse.click(box["x"] + across * box["width"], box["y"] + down)
        expect(card.locator("thead .now")).to_have_text("at 0:02")
        assert float(card.locator(".time").input_value()) == pytest.approx(2.5, abs=0.1)
    shown = f"{float(row['valence']):.1f}" if scale == "labels" else f"{float(row['valence']):.2f}"
    expect(card.locator(".valence .now")).to_have_text(shown)


def test_a_recording_of_the_microphone(open_page: Open, server: Server) -> None:
    page = open_page()
    expect(page.locator("#model")).to_contain_text("rates from")
    page.fill("#window", "1")
    page.fill("#hop", "0.5")
    page.get_by_role("button", name="Record").click()
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_have_attribute("aria-pressed", "true")
    card = page.locator(".card")
    expect(card.locator("details tbody tr").nth(2)).to_be_attached()
    stop.click()
    expect(card.locator(".play")).to_be_enabled()
    expect(page.get_by_role("button", name="Record")).to_be_enabled()
    table = downloaded(card)
    assert len(table) >= 3
    assert [float(row["start"]) for row in table] == [0.5 * index for index in range(len(table))]
    assert all(row["note"] == "" for row in table[:3])  # it is not silent
    assert len({row["activation"] for row in table}) > 1
    expect(card.locator("h2")).to_contain_text("Recording")
    card.locator(".play").click()
    expect(card.locator("thead .now")).to_have_text(re.compile("at 0:0[1-9]"))  # it goes on
    assert server.metric("sa2sr_streams") == 0


TRACKS = """
const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
window.tracks = [];
media.getUserMedia = async (options) => {
  await new Promise((done) => { window.allow = done; if (!window.hesitates) done(); });
  const stream = await ask(options);
  window.tracks.push(...stream.getTracks());
  return stream;
};
null; // for what ends in a function would be called
"""


def wait_until_closed(page: "playwright.Page") -> None:
    """Every track of the microphone that was opened; the page's policy forbids to let it wait itself."""
    closed = "window.tracks.length > 0 && window.tracks.every((track) => track.readyState === 'ended')"
    for _ in range(600):
        if page.evaluate(closed):
            return
        page.wait_for_timeout(50)
    pytest.fail("the microphone is still open")


def test_a_recording_that_is_not_wanted_any_more_closes_the_microphone(open_page: Open) -> None:
    """Its card is removed while the browser asks whether the page may listen."""
    page = open_page()
    expect(page.locator("#model")).to_contain_text("rates from")
    page.evaluate(f"window.hesitates = true; {TRACKS}")
    page.get_by_role("button", name="Record").click()
    page.locator(".card .remove").click()
    page.evaluate("window.allow()")
    wait_until_closed(page)
    record = page.get_by_role("button", name="Record")
    expect(record).to_be_enabled()
    expect(record).to_have_attribute("aria-pressed", "false")


def test_a_recorder_that_cannot_be_loaded_closes_the_microphone(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("#model")).to_contain_text("rates from")
    page.evaluate(TRACKS)
    page.evaluate("AudioWorklet.prototype.addModule = () => Promise.reject(new Error('it is gone')); null;")
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#problem")).to_contain_text("cannot be listened to (it is gone)")
    wait_until_closed(page)
    expect(page.locator(".card")).to_have_count(0)


def test_several_files_side_by_side(open_page: Open, speech: Path, tmp_path: Path) -> None:
    other = shutil.copy(speech, tmp_path / "<b>other.wav")
    page = open_page(width=1400)
    upload(page, speech, Path(other))
    expect(page.locator(".card.filled")).to_have_count(2)
    first, second = (page.locator(".card").nth(index).bounding_box() for index in range(2))
    assert first is not None
    assert second is not None
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    assert page.locator(".card b").count() == 0  # names are text
    page.locator(".card").first.locator(".remove").click()
    expect(page.locator(".card")).to_have_count(1)


def test_what_goes_wrong_is_said(open_page: Open, speech: Path, tmp_path: Path) -> None:
    page = open_page(microphone=False)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio at all")
    expect(upload(page, bad).get_by_role("alert")).to_contain_text("bad.wav: is not audio")
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(110_000_000)
    expect(upload(page, large).get_by_role("alert")).to_contain_text("110 MB; this server takes 100 MB")
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#problem")).to_contain_text("does not allow this page to use the microphone")
    expect(page.get_by_role("button", name="Record")).to_be_enabled()
    page.fill("#hop", "3")
    page.set_input_files("#files", [speech])
    expect(page.locator(".card").last.get_by_role("alert")).to_contain_text("hop")


def test_a_token_is_asked_for_and_a_lost_server_is_noticed(
    browser: "playwright.Browser", folder: Path, speech: Path
) -> None:
    with serving(folder, SA2SR_TOKEN=TOKEN) as server, opener(browser, server.url) as open_:
        page = open_()
        for token, wrong in (("wrong", False), (TOKEN, True)):
            expect(page.locator("#login-wrong")).to_be_visible(visible=wrong)
            page.get_by_role("textbox", name="Token").fill(token)
            page.keyboard.press("Enter")
        upload(page, speech)
        page.get_by_role("button", name="Record").click()
        expect(page.locator(".card").last.locator(".meta")).to_contain_text("estimate")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Record")).to_be_enabled()
        server.process.terminate()
        server.process.wait(30)
        alert = upload(page, speech).get_by_role("alert")
        expect(alert).to_have_text("The server cannot be reached, or broke off.")


def test_keyboard_and_screen_reader(open_page: Open, speech: Path) -> None:
    page = open_page()
    card = upload(page, speech)
    slider = card.get_by_role("slider", name="Time in the recording")
    slider.focus()
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^0:05: activation \d\.\d, valence \d\.\d, dom"))
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^0:00: "))
    for role, name in (("img", "Emotions over time"), ("img", "Valence \\d.* and activation"), ("region", "estimates")):
        assert card.get_by_role(role, name=re.compile(name), include_hidden=True).count() >= 1
    # Whatever can be clicked has a name and can be reached.
    for control in page.locator("button, input, select, a, summary").all():
        if control.is_visible():
            named = control.evaluate(
                "e => e.ariaLabel || e.textContent.trim() || [...(e.labels ?? [])].map(l => l.textContent).join('')"
            )
            assert named
            assert control.evaluate("e => e.disabled || e.tabIndex >= 0")
    card.locator(".remove").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#choose")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(open_page: Open, scheme: str) -> None:
    page = open_page(scheme=scheme)

    def luminance(name: str) -> float:
        value = page.evaluate("n => getComputedStyle(document.documentElement).getPropertyValue(n)", f"--{name}")
        red, green, blue = (int(value.strip()[index : index + 2], 16) / 255 for index in (1, 3, 5))
        parts = np.array([red, green, blue])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(one: str, other: str) -> float:  # as WCAG 2 defines it
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for text in ("text", "soft", "focus", *DIMENSIONS):
        for ground in ("surface", "ground"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    assert contrast("alarm", "alarm-ground") >= 4.5
    assert contrast("on-strong", "strong") >= 4.5


def test_a_phone_shows_it_without_scrolling_sideways(open_page: Open, speech: Path) -> None:
    page = open_page(width=360, scheme="dark")
    card = upload(page, speech)
    card.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = card.locator(".u-over").bounding_box()
    assert box is not None
    assert box["width"] > 200


def test_the_page_is_small_and_closed(server: Server) -> None:
    with server.client() as client:
        front = client.get("/")
        policy = front.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"\sstyle=|\son\w+=|<script>|https?://(?!www\.w3\.org)", front.text)
        parts = re.findall(r'(?:src|href)="([^"]+\.(?:js|css|svg))"', front.text)
        sizes = [len(client.get(f"/{name}").content) for name in {*parts, "card.js", "chart.js", "api.js"}]
        assert sum(sizes) < 150_000
        assert client.get("/..%2f..%2fapp.py").status_code == 404
        assert client.get("/vendor/LICENSE").text.startswith("The MIT License")
