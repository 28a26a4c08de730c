// Runs beside the sound card: hands on what the microphone hears, as 16-bit samples, some at a time.

const CHUNK = 4096; // samples

class Capture extends AudioWorkletProcessor {
  chunk = new Int16Array(CHUNK);
  filled = 0;
  peak = 0;

  process([channels]) {
    const samples = channels[0];
    if (!samples) return true;
    for (const sample of samples) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.peak = Math.max(this.peak, Math.abs(clipped));
      this.chunk[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === CHUNK) {
        this.port.postMessage({ samples: this.chunk, peak: this.peak });
        this.chunk = new Int16Array(CHUNK);
        this.filled = this.peak = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
