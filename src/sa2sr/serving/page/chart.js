// Activation, valence and dominance over time, with their intervals.

import { DIMENSIONS, clock, colour } from "./text.js";

export const LEFT = 40, RIGHT = 18; // pixels beside the plot
const HEIGHT = 208;

export class Chart {
  // `choose` is called with the time that a pointer asks for.
  constructor(container, scale, choose) {
    this.container = container;
    this.range = [0, 1];
    this.chosen = null;
    const axis = { stroke: () => colour("soft"), ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const grid = { stroke: () => colour("grid"), width: 1 };
    const line = (name) => ({
      stroke: () => colour(name),
      width: 2,
      dash: name === "dominance" ? [6, 4] : undefined,
      points: { size: 6, fill: () => colour(name), show: (plot) => plot.data[0].length < 40 },
    });
    const end = { stroke: null, points: { show: false } };
    this.plot = new uPlot({
      width: container.clientWidth || 600,
      height: HEIGHT,
      padding: [10, RIGHT, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: { x: { time: false, range: () => this.range }, y: { range: [scale.low, scale.high] } },
      axes: [
        { ...axis, grid: { show: false }, size: 30, gap: 9, values: (_, seconds) => seconds.map(clock), incrs: INCREMENTS },
        { ...axis, grid, size: LEFT, splits: () => steps(scale) },
      ],
      series: [{}, ...DIMENSIONS.map(line), ...DIMENSIONS.flatMap(() => [end, end])],
      bands: DIMENSIONS.map((name, i) => ({ series: [5 + 2 * i, 4 + 2 * i], fill: () => `${colour(name)}1f` })),
      hooks: { draw: [() => this.#mark()] },
    }, [[], ...Array(9).fill([])], container);
    const over = this.plot.over;
    const ask = (event) => event.buttons & 1 && choose(this.plot.posToVal(event.clientX - this.#left(), "x"));
    over.addEventListener("pointerdown", (event) => { over.setPointerCapture(event.pointerId); ask(event); });
    over.addEventListener("pointermove", ask);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(container);
  }

  #left() {
    return this.plot.over.getBoundingClientRect().left;
  }

  #mark() {
    if (this.chosen == null) return;
    const { ctx: pen, bbox } = this.plot;
    const x = this.plot.valToPos(this.chosen, "x", true);
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) return;
    pen.fillStyle = colour("text");
    pen.fillRect(x - 0.75 * devicePixelRatio, bbox.top, 1.5 * devicePixelRatio, bbox.height);
  }

  resize() {
    const width = this.container.clientWidth;
    if (width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  // Rows are drawn at the middle of what they are about.
  show(rows, range) {
    this.range = range;
    const column = (name) => rows.map((row) => row[name] ?? null);
    this.plot.setData([
      rows.map((row) => (row.start + row.end) / 2),
      ...DIMENSIONS.map(column),
      ...DIMENSIONS.flatMap((name) => [column(`${name}_low`), column(`${name}_high`)]),
    ]);
  }

  choose(seconds) {
    this.chosen = seconds;
    this.plot.redraw(false, false);
  }

  destroy() {
    this.observer.disconnect();
    this.plot.destroy();
  }
}

// Where lines cross the plot: at whole numbers, if there are not too many.
function steps({ low, high }) {
  const whole = Number.isInteger(low) && Number.isInteger(high) && high - low > 1 && high - low <= 10;
  const count = whole ? high - low : 4;
  return Array.from({ length: count + 1 }, (_, i) => low + (i * (high - low)) / count);
}

const INCREMENTS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
