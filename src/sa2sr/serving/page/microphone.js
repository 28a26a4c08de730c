// The microphone: chunks of 16-bit samples while it is open.

const REASONS = {
  NotAllowedError: "The browser does not allow this page to use the microphone.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is used by another program.",
};

export async function openMicrophone(heard) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error("Browsers allow recording only on pages from localhost or over https.");
  }
  let media;
  try {
    // What makes telephone calls pleasant would change what is measured.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The microphone cannot be used (${error.name}).`);
  }
  const context = new AudioContext();
  let listening = true;
  const close = () => {
    listening = false;
    for (const track of media.getTracks()) track.stop();
    if (context.state !== "closed") context.close();
  };
  try {
    await context.audioWorklet.addModule("capture.js");
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1 });
    capture.port.onmessage = ({ data }) => listening && heard(data.samples, data.peak, context.sampleRate);
    context.createMediaStreamSource(media).connect(capture);
    await context.resume();
  } catch (error) {
    close();
    throw new Error(`The microphone cannot be listened to (${error.message}).`);
  }
  return { rate: context.sampleRate, close };
}

// Samples as a WAV file, to listen to.
export function wav(chunks, rate) {
  const size = 2 * chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const head = new DataView(new ArrayBuffer(44));
  const write = (offset, text) => [...text].forEach((letter, i) => head.setUint8(offset + i, letter.charCodeAt(0)));
  write(0, "RIFF"); head.setUint32(4, 36 + size, true); write(8, "WAVEfmt "); head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); head.setUint16(22, 1, true); head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true); head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  write(36, "data"); head.setUint32(40, size, true);
  return new Blob([head, ...chunks], { type: "audio/wav" });
}
