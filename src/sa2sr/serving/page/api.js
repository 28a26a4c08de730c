// What the page asks of the server.

let token = sessionStorage.getItem("token") ?? "";
let asking = null; // the dialog, while it is open

export class ServerError extends Error {}

// Ask for the token once, however many requests need it.
function login() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = document.getElementById("login");
    document.getElementById("login-wrong").hidden = !token;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      if (!dialog.returnValue) return reject(new ServerError("This server asks for a token; load the page again."));
      token = document.getElementById("token").value.trim();
      sessionStorage.setItem("token", token);
      return resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function ask(path, options = {}, patience = 5) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {} });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached, or broke off.");
  }
  if (response.ok) return response.json();
  if (response.status === 401) {
    await login();
    return ask(path, options, patience);
  }
  if (response.status === 503 && patience > 0) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    return ask(path, options, patience - 1);
  }
  const answer = await response.json().catch(() => null);
  throw new ServerError(answer?.error?.message ?? `The server answers ${response.status}.`);
}

export const model = () => ask("v1/model");

export function predict(file, options, signal) {
  const form = new FormData();
  form.append("file", file, file.name);
  return ask(`v1/predict?${new URLSearchParams(options)}`, { method: "POST", body: form, signal });
}

// A stream: `send` takes samples, `end` asks for the rest. Messages of the server go to `heard`.
export function stream(start, heard) {
  const url = new URL("v1/stream", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let over = false;
  const finish = (message) => {
    if (!over) heard(message);
    over = true;
  };
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(token ? { ...start, token } : start));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "end" || message.type === "error") finish(message);
    else heard(message);
  };
  socket.onclose = () => finish({ type: "error", message: "The server broke off." });
  return {
    send: (samples) => socket.readyState === WebSocket.OPEN && socket.send(samples),
    end: () => socket.readyState === WebSocket.OPEN && socket.send('{"end": true}'),
    close: () => socket.close(),
  };
}
