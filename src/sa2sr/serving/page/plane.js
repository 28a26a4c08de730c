// The plane of valence and activation: the way of a recording through it, and a dot where it is.

import { colour } from "./text.js";

const MARGIN = 24; // pixels around the plane, for the words

export class Plane {
  constructor(canvas, scale) {
    this.canvas = canvas;
    this.scale = scale;
  }

  draw(rows, current) {
    const size = this.canvas.clientWidth;
    if (!size) return;
    const dots = devicePixelRatio || 1;
    this.canvas.width = this.canvas.height = size * dots;
    const pen = this.canvas.getContext("2d");
    pen.scale(dots, dots);
    const inner = size - 2 * MARGIN;
    const share = (number) => (number - this.scale.low) / (this.scale.high - this.scale.low);
    const x = (valence) => MARGIN + share(valence) * inner;
    const y = (activation) => size - MARGIN - share(activation) * inner;
    this.#axes(pen, size, inner);

    pen.lineJoin = "round";
    pen.strokeStyle = colour("wave");
    pen.lineWidth = 1.25;
    pen.beginPath();
    for (const row of rows) pen.lineTo(x(row.valence), y(row.activation));
    pen.stroke();
    if (rows.length < 400) {
      pen.fillStyle = colour("wave");
      for (const row of rows) this.#dot(pen, x(row.valence), y(row.activation), 2);
    }
    if (!current) return;
    if (current.valence_low != null && current.activation_low != null) {
      const [left, right] = [x(current.valence_low), x(current.valence_high)];
      const [top, bottom] = [y(current.activation_high), y(current.activation_low)];
      pen.fillStyle = `${colour("soft")}22`;
      pen.beginPath();
      pen.ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2, 0, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.fillStyle = colour("surface");
    this.#dot(pen, x(current.valence), y(current.activation), 9);
    pen.fillStyle = colour("strong");
    this.#dot(pen, x(current.valence), y(current.activation), 7);
  }

  #axes(pen, size, inner) {
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.roundRect(MARGIN, MARGIN, inner, inner, 8);
    pen.stroke();
    pen.strokeStyle = colour("grid");
    pen.beginPath();
    pen.moveTo(size / 2, MARGIN + 1); pen.lineTo(size / 2, size - MARGIN - 1);
    pen.moveTo(MARGIN + 1, size / 2); pen.lineTo(size - MARGIN - 1, size / 2);
    pen.stroke();
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillStyle = colour("activation");
    pen.fillText("excited", size / 2, MARGIN - 8);
    pen.fillText("calm", size / 2, size - MARGIN + 17);
    pen.fillStyle = colour("valence");
    for (const [word, across] of [["unpleasant", MARGIN - 9], ["pleasant", size - MARGIN + 17]]) {
      pen.save();
      pen.translate(across, size / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(word, 0, 0);
      pen.restore();
    }
  }

  #dot(pen, x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  }
}
