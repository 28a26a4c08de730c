// The waveform of a recording: the loudest sample of each short stretch of time.

import { colour } from "./text.js";

const RATE = 8000; // Hz, enough to see
const MOST = 64 << 20; // bytes of a file that the browser decodes to show it
const STEP = 0.02; // seconds of a stretch

export class Waveform {
  constructor(canvas) {
    this.canvas = canvas;
    this.peaks = [];
  }

  get seconds() {
    return this.peaks.length * STEP;
  }

  // Read a file; false if this browser cannot decode it, which the server still may.
  async read(file) {
    if (file.size > MOST) return false;
    try {
      const context = new OfflineAudioContext(1, 1, RATE);
      const audio = await context.decodeAudioData(await file.arrayBuffer());
      this.add(audio.getChannelData(0), RATE, 1);
      return true;
    } catch {
      return false;
    }
  }

  // Add samples that follow those before, of which `full` is full scale.
  add(samples, rate, full) {
    const size = Math.round(STEP * rate);
    this.rest = this.rest ?? { peak: 0, count: 0 };
    for (const sample of samples) {
      this.rest.peak = Math.max(this.rest.peak, Math.abs(sample) / full);
      if (++this.rest.count >= size) {
        this.peaks.push(this.rest.peak);
        this.rest = { peak: 0, count: 0 };
      }
    }
  }

  // Draw what lies between two times, with the chosen one marked; margins are those of the chart below.
  draw([from, to], chosen, left, right) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const dots = devicePixelRatio || 1;
    this.canvas.width = width * dots;
    this.canvas.height = height * dots;
    const pen = this.canvas.getContext("2d");
    pen.scale(dots, dots);
    const inner = width - left - right, middle = height / 2;
    pen.fillStyle = colour("wave");
    for (let x = 0; x < inner; x++) {
      const at = (pixel) => Math.floor((from + (pixel / inner) * (to - from)) / STEP);
      let peak = 0;
      for (let i = Math.max(0, at(x)); i <= Math.min(at(x + 1), this.peaks.length - 1); i++) {
        peak = Math.max(peak, this.peaks[i]);
      }
      if (at(x) < this.peaks.length) {
        const half = Math.max(0.5, Math.sqrt(peak) * (middle - 1)); // the square root shows soft speech too
        pen.fillRect(left + x, middle - half, 1, 2 * half);
      }
    }
    if (chosen != null) {
      pen.fillStyle = colour("text");
      pen.fillRect(left + ((chosen - from) / (to - from)) * inner - 0.75, 0, 1.5, height);
    }
  }
}
