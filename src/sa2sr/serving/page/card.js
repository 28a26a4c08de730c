// A recording on the page: its waveform, its estimates over time, and what they are at the chosen time.

import { Chart, LEFT, RIGHT } from "./chart.js";
import { Plane } from "./plane.js";
import { DIMENSIONS, clock, csv, rounded } from "./text.js";
import { Waveform } from "./waveform.js";

const LIVE = 60; // seconds that are shown of a recording that is going on

export class Card {
  constructor(name, removed) {
    this.name = name;
    this.rows = [];
    this.time = 0;
    this.live = false;
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.find("h2").textContent = name;
    this.waveform = new Waveform(this.find(".wave"));
    this.slider = this.find(".time");
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.find(".wave").addEventListener("pointerdown", (event) => this.seek(this.#timeAt(event)));
    this.find(".play").addEventListener("click", () => this.#playOrPause());
    this.find(".download").addEventListener("click", () => this.#download());
    this.removed = removed;
    this.find(".remove").addEventListener("click", () => this.remove());
  }

  remove() {
    this.audio?.pause();
    this.chart?.destroy();
    this.element.remove();
    this.removed();
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  busy(text) {
    this.element.classList.toggle("busy", Boolean(text));
    if (text) this.find(".meta").textContent = text;
  }

  fail(message) {
    this.busy("");
    this.find(".notice").textContent = message;
    this.find(".notice").hidden = false;
    if (!this.rows.length) this.find(".meta").textContent = "";
  }

  // Say what the numbers are, once, before there are any.
  begin({ scale, level, columns }) {
    Object.assign(this, { scale, level, columns });
    this.element.classList.add("filled");
    this.find(".scale").textContent = `on ${scale.low} to ${scale.high}`;
    this.find(".level").textContent = level ? `Small: where ${Math.round(100 * level)} % of ratings are expected` : "";
    this.chart = new Chart(this.find(".chart"), scale, (seconds) => this.seek(seconds));
    this.plane = new Plane(this.find(".plane"), scale);
    this.find(".numbers tbody").replaceChildren(...DIMENSIONS.map((name) => {
      const row = document.createElement("tr");
      row.className = name;
      row.append(cell("th", name[0].toUpperCase() + name.slice(1)), cell("td", "", "now"), cell("td", "", "mean"),
        cell("td", "", "spread"));
      row.firstChild.scope = "row";
      return row;
    }));
    this.find("details thead").replaceChildren(line("th", this.columns.filter((name) => name !== "file")));
    this.find(".words").hidden = !this.columns.some((name) => name === "transcript" || name === "positive");
    this.find(".sentiment").hidden = !this.columns.includes("positive");
  }

  add(rows) {
    this.rows.push(...rows);
    this.find("details tbody").append(...rows.map((row) => line("td", this.columns
      .filter((name) => name !== "file")
      .map((name) => (typeof row[name] === "number" ? row[name].toFixed(3) : row[name] ?? "")))));
    this.find(".download").disabled = !this.rows.length;
    this.#words();
    this.#summarise();
    if (this.live) this.time = this.rows.at(-1).end;
    this.draw();
  }

  get seconds() {
    return Math.max(this.waveform.seconds, this.rows.at(-1)?.end ?? 0);
  }

  // What is shown: the whole recording, or the end of one that is going on.
  get range() {
    if (!this.live) return [0, this.seconds || 1];
    const end = Math.max(this.seconds, LIVE / 2);
    return [Math.max(0, end - LIVE), end];
  }

  // The estimate whose middle is closest to the chosen time.
  get current() {
    const distance = (row) => Math.abs((row.start + row.end) / 2 - this.time);
    return this.rows.reduce((best, row) => (best && distance(best) <= distance(row) ? best : row), undefined);
  }

  seek(seconds) {
    this.time = Math.min(Math.max(0, seconds), this.seconds);
    if (this.audio && Math.abs(this.audio.currentTime - this.time) > 0.05) this.audio.currentTime = this.time;
    this.draw(false);
  }

  // Draw at the next frame, however often that is asked for.
  draw(all = true) {
    this.stale = this.stale || all;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.chart || !this.element.isConnected) return;
      if (this.stale) this.chart.show(this.rows, this.range);
      this.stale = false;
      const chosen = this.live ? null : this.time;
      this.chart.choose(chosen);
      this.waveform.draw(this.range, chosen, LEFT, RIGHT);
      this.plane.draw(this.rows, this.current);
      this.#now();
    });
  }

  finish() {
    this.live = false;
    this.busy("");
    this.time = 0;
    this.#summarise();
    this.draw();
  }

  listenTo(blob) {
    this.audio = new Audio(URL.createObjectURL(blob));
    const play = this.find(".play");
    const follow = () => {
      play.textContent = this.audio.paused ? "Play" : "Pause";
      this.time = this.audio.currentTime;
      this.draw(false);
      if (!this.audio.paused) requestAnimationFrame(follow);
    };
    for (const event of ["play", "pause", "ended"]) this.audio.addEventListener(event, follow);
    this.audio.addEventListener("canplay", () => { play.disabled = false; });
  }

  // For a reader of the screen, and under the name of the recording.
  get summary() {
    const means = DIMENSIONS.map((name) => `${name} ${rounded(this.#mean(name), this.scale)}`).join(", ");
    const category = this.#category() ? `; most of all ${this.#category()}` : "";
    return `${this.name}: mean ${means}, on a scale of ${this.scale.low} to ${this.scale.high}${category}.`;
  }

  // The most probable of the model's categories, over all estimates, with its mean probability; none if it has none.
  #category() {
    const names = Object.keys(this.rows[0] ?? {}).filter((name) => name.startsWith("emotion_"));
    const [best] = names.sort((a, b) => this.#mean(b) - this.#mean(a));
    return best ? `${best.slice("emotion_".length)} (${(100 * this.#mean(best)).toFixed(0)} %)` : "";
  }

  #mean(name) {
    return this.rows.reduce((sum, row) => sum + row[name], 0) / this.rows.length;
  }

  #timeAt(event) {
    const box = this.find(".wave").getBoundingClientRect();
    const [from, to] = this.range;
    return from + ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * (to - from);
  }

  #summarise() {
    const count = `${this.rows.length} ${this.rows.length === 1 ? "estimate" : "estimates"}`;
    const notes = [...new Set(this.rows.flatMap((row) => (row.note ? row.note.split("; ") : [])))];
    this.find(".meta").textContent = [clock(this.seconds), count, this.#category(), ...notes].filter(Boolean).join(" · ");
    this.slider.max = this.seconds.toFixed(1);
    this.slider.disabled = this.live;
    if (!this.rows.length) return;
    for (const name of DIMENSIONS) {
      const numbers = this.rows.map((row) => row[name]);
      const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
      this.find(`.${name} .mean`).textContent = rounded(this.#mean(name), this.scale);
      this.find(`.${name} .spread`).textContent = `${rounded(low, this.scale)} – ${rounded(high, this.scale)}`;
    }
    this.find(".chart").setAttribute("aria-label", `Emotions over time. ${this.summary}`);
  }

  #now() {
    const row = this.current;
    if (!row) return;
    for (const name of DIMENSIONS) {
      const now = this.find(`.${name} .now`);
      now.textContent = rounded(row[name], this.scale);
      if (row[`${name}_low`] != null) {
        const [low, high] = ["low", "high"].map((end) => rounded(row[`${name}_${end}`], this.scale));
        now.append(cell("span", `${low} – ${high}`, "interval"));
      }
    }
    const span = `${clock(row.start)} to ${clock(row.end)}`;
    this.find("thead .now").textContent = this.live ? "now" : `at ${clock(this.time)}`;
    this.slider.value = this.time;
    const said = DIMENSIONS.map((name) => `${name} ${rounded(row[name], this.scale)}`).join(", ");
    this.slider.setAttribute("aria-valuetext", `${clock(this.time)}: ${said}`);
    this.find(".plane").setAttribute("aria-label",
      `Valence ${rounded(row.valence, this.scale)} and activation ${rounded(row.activation, this.scale)}, ${span}`);
    const words = [...this.find(".transcript").children];
    const spoken = words.findLast((each) => each.row.start <= this.time) ?? words[0];
    for (const each of words) each.classList.toggle("current", each === spoken);
    if (spoken) spoken.parentElement.scrollTop = spoken.offsetTop - spoken.parentElement.clientHeight / 2;
    if (row.positive != null) {
      const shares = ["negative", "neutral", "positive"];
      for (const name of shares) this.find(`.sentiment .${name}`).style.flexGrow = row[name];
      const text = shares.map((name) => `${name} ${Math.round(100 * row[name])}\u00a0%`).join(", ");
      this.find(".sentiment").setAttribute("aria-label", `Sentiment: ${text}`);
      this.find(".sentiment-text").textContent = `Sentiment of the words from ${span}: ${text}`;
    }
  }

  // Windows overlap, and so would their words: those are shown that begin where the ones before have ended.
  #words() {
    if (!this.columns.includes("transcript")) return;
    const box = this.find(".transcript");
    let heard = box.lastElementChild?.row.end ?? 0;
    for (const row of this.rows) {
      if (row.start < heard - 1e-6) continue;
      const words = cell("span", `${row.transcript || "…"} `);
      words.row = row;
      box.append(words);
      heard = row.end;
    }
  }

  #playOrPause() {
    if (!this.audio.paused) {
      this.audio.pause();
      return;
    }
    this.audio.currentTime = this.time >= this.seconds - 0.05 ? 0 : this.time;
    this.audio.play().catch(() => this.fail("This browser cannot play the file."));
  }

  #download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(this.columns, this.rows)], { type: "text/csv" }));
    link.download = `${this.name.replace(/\.[^.]*$/, "") || "emotions"}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

function cell(kind, text, name = "") {
  const element = document.createElement(kind);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

function line(kind, texts) {
  const row = document.createElement("tr");
  row.append(...texts.map((text) => cell(kind, text)));
  return row;
}
