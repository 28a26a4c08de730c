// The page: files and the microphone in, cards out.

import * as api from "./api.js";
import { Card } from "./card.js";
import { openMicrophone, wav } from "./microphone.js";
import { DIMENSIONS, clock, rounded } from "./text.js";

const AT_A_TIME = 2; // uploads
const KEPT = 20 * 60; // seconds of a recording that can be listened to
const ANNOUNCED = 10_000; // milliseconds between what a reader of the screen is told of a recording

const get = (id) => document.getElementById(id);
const cards = new Set();
let model = null;

function problem(message) {
  get("problem").textContent = message;
  get("problem").hidden = !message;
}

const say = (text) => { get("status").textContent = text; };

function newCard(name) {
  const card = new Card(name, () => {
    cards.delete(card);
    if (recording?.card === card) recording.stop();
    get("empty").hidden = cards.size > 0;
    get("choose").focus();
  });
  cards.add(card);
  get("empty").hidden = true;
  get("cards").append(card.element);
  return card;
}

function options() {
  if (!get("options").reportValidity()) return null;
  const chosen = { window: get("window").value, hop: get("hop").value, scale: get("scale").value };
  for (const each of model?.heard ?? []) chosen[each] = get(each).checked;
  return chosen;
}

// --- Files -----------------------------------------------------------------------------------------------------------

const waiting = [];
let uploading = 0;

function addFiles(files) {
  problem("");
  const chosen = files.length ? options() : null;
  if (!chosen) return;
  for (const file of files) {
    const card = newCard(file.name);
    if (model && file.size > model.limits.body - 1000) {
      card.fail(`The file has ${megabytes(file.size)}; this server takes ${megabytes(model.limits.body)}.`);
    } else {
      card.busy("Waiting …");
      waiting.push([file, card, chosen]);
    }
  }
  next();
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

async function next() {
  if (uploading >= AT_A_TIME || !waiting.length) return;
  uploading++;
  const [file, card, chosen] = waiting.shift();
  if (cards.has(card)) await predict(file, card, chosen);
  uploading--;
  next();
}

async function predict(file, card, chosen) {
  card.busy("Listening …");
  try {
    const [answer] = await Promise.all([api.predict(file, chosen), card.waveform.read(file)]);
    card.begin({ ...answer, columns: Object.keys(answer.rows[0]) });
    card.add(answer.rows);
    card.listenTo(file);
    card.finish();
    if (answer.failures.length) card.fail(answer.failures.map((each) => each.reason).join("; "));
    say(card.summary);
  } catch (error) {
    card.fail(error instanceof api.ServerError ? error.message : `The page failed: ${error.message}`);
    if (!(error instanceof api.ServerError)) console.error(error);
  }
}

function connectFiles() {
  const drop = get("drop");
  get("choose").addEventListener("click", () => get("files").click());
  get("files").addEventListener("change", () => {
    addFiles([...get("files").files]);
    get("files").value = "";
  });
  // Anywhere on the page, since nobody wants the browser to open the file instead.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    addFiles([...event.dataTransfer.files]);
  });
}

// --- The microphone --------------------------------------------------------------------------------------------------

let recording = null;

function showRecording(on) {
  get("record").setAttribute("aria-pressed", on);
  get("record-label").textContent = on ? "Stop" : "Record";
  get("record-hint").textContent = on ? "Recording …" : "Estimates appear while you speak";
  if (!on) get("level").value = 0;
}

async function record() {
  problem("");
  const chosen = options();
  if (!chosen) return;
  get("record").disabled = true;
  try {
    recording = await startRecording(chosen);
    showRecording(recording !== null);
  } catch (error) {
    problem(error.message);
  }
  get("record").disabled = false;
}

async function startRecording({ window, hop, ...rest }) {
  const chunks = [], early = [];
  const card = newCard(`Recording ${new Date().toLocaleTimeString()}`);
  let kept = 0, stream = null, ready = false, stopped = false, told = 0;
  card.live = true;
  card.busy("Asking for the microphone …");
  const hear = (samples, peak, rate) => {
    get("level").value = Math.sqrt(peak);
    if (kept < KEPT * rate) chunks.push(samples);
    kept += samples.length;
    if (ready) stream.send(samples);
    else early.push(samples);
    card.waveform.add(samples, rate, 32768);
    card.draw();
    get("record-hint").textContent = clock(kept / rate);
  };
  const microphone = await openMicrophone(hear).catch((error) => {
    card.remove();
    throw error;
  });
  if (!cards.has(card)) { // it was removed while the browser asked
    microphone.close();
    return null;
  }
  card.busy("Connecting …");

  const done = (message) => {
    microphone.close();
    if (recording?.card === card) recording = null;
    showRecording(false);
    get("record").disabled = false;
    if (card.chart) {
      card.listenTo(wav(chunks, microphone.rate));
      card.finish();
    }
    if (message) card.fail(message);
    else if (!card.rows.length) card.fail("Nothing was recorded.");
    else say(card.summary);
  };
  const heard = (message) => {
    if (message.type === "ready") {
      card.begin(message);
      card.busy(`Listening; the first estimate comes after ${window} s …`);
      for (const samples of early.splice(0)) stream.send(samples);
      ready = true;
      if (stopped) stream.end();
    } else if (message.type === "estimate") {
      card.busy("");
      card.add([message]);
      if (Date.now() - told > ANNOUNCED) {
        told = Date.now();
        say(DIMENSIONS.map((name) => `${name} ${rounded(message[name], card.scale)}`).join(", "));
      }
    } else if (message.type === "failure") {
      card.fail(message.reason);
    } else {
      done(message.type === "error" ? message.message : "");
    }
  };
  stream = api.stream(
    { rate: microphone.rate, encoding: "pcm16", window: Number(window), hop: Number(hop), name: card.name, ...rest },
    heard,
  );
  return {
    card,
    stop() {
      microphone.close();
      get("record").disabled = true; // until the server has said the rest
      get("record-hint").textContent = "Finishing …";
      stopped = true;
      if (ready) stream.end();
    },
  };
}

// --- Begin -----------------------------------------------------------------------------------------------------------

async function begin() {
  connectFiles();
  get("record").addEventListener("click", () => (recording ? recording.stop() : record()));
  get("options").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cards.forEach((card) => card.draw()));
  addEventListener("resize", () => cards.forEach((card) => card.draw()));
  try {
    model = await api.model();
  } catch (error) {
    get("model").textContent = "";
    problem(error.message);
    return;
  }
  const { low, high } = model.scale;
  get("model").textContent = `${model.model} · rates from ${low} to ${high}`;
  get("scale").options[0].textContent = `${low} to ${high}`;
  get("accepted").textContent =
    `${model.formats.join(", ")} · up to ${megabytes(model.limits.body)}, ${Math.floor(model.limits.seconds / 60)} min`;
  for (const each of model.heard) get(each).closest("label").hidden = false;
}

begin();
