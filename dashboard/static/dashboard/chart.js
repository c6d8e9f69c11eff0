// Time series as inline SVG.
//
// Written here rather than taken from a library: four charts of 300 points need lines, areas and a
// cursor. That is this file, against 200 kB of Chart.js (which django-unfold ships); SVG takes its
// colours from the style sheet, stays sharp at any zoom, and needs no exception from the page's CSP.

import { clock } from "./format.js";
import { el, setText, svg } from "./dom.js";

export const WINDOW_MS = 300_000;
const GAP_MS = 3_500;  // a longer silence is drawn as a hole, not as a slope
const WIDTH = 300;
const HEIGHT = 100;

/** The time all charts point at: null follows the present. */
export const cursor = new (class extends EventTarget {
  atMs = null;
  set(atMs) {
    if (this.atMs === atMs) return;
    this.atMs = atMs;
    this.dispatchEvent(new Event("change"));
  }
})();

export function nearest(points, atMs) {
  let best = null;
  for (const point of points) {
    if (!best || Math.abs(point.at_ms - atMs) < Math.abs(best.at_ms - atMs)) best = point;
  }
  return best;
}

const valueOf = (point, { key, unit = 1 }) => (Number.isFinite(point[key]) ? point[key] / unit : null);

/** The least round number that holds the value and has a round half. */
export function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.6, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** One chart. `lines` are {key, className, area, unit, over}: a point's value of `key` is divided by
 * `unit` and drawn as the mean of the last `over` points.
 * `bands` are {from, to, className}, and `floor` is the least full scale. */
export class Chart {
  constructor(host, { title, lines, format, floor, ceiling = null, bands = [], middle = 0.5, describe }) {
    Object.assign(this, { host, title, lines, format, floor, ceiling, middle, describe, points: [] });
    this.build(bands);
    this.listen();
  }

  build(bands) {
    const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const band of bands) plot.append(this.band(band));
    for (const y of [0, HEIGHT * (1 - this.middle), HEIGHT]) plot.append(svg("path", { class: "grid", d: `M0 ${y}H${WIDTH}` }));
    this.paths = this.lines.map((line) => this.pathsOf(line));
    plot.append(...this.paths.flatMap((paths) => [paths.area, paths.line]).filter(Boolean));
    this.mark = svg("path", { class: "cursor", d: "" });
    plot.append(this.mark);
    this.plot = plot;
    this.top = el("span", "chart-top");
    this.half = el("span", "chart-half");
    this.half.style.setProperty("--from-top", 1 - this.middle);
    this.none = el("span", "chart-none", "no requests in the last 5 minutes");
    this.span = el("span", "chart-span", "5 min ago");
    this.now = el("span", "chart-now", "now");
    this.host.append(plot, this.top, this.half, this.none, this.span, this.now);
  }

  band({ from, to, className }) {
    const y = HEIGHT * (1 - to / this.ceiling);
    return svg("rect", { class: className, x: 0, y, width: WIDTH, height: (HEIGHT * (to - from)) / this.ceiling });
  }

  pathsOf({ className, area }) {
    return {
      area: area ? svg("path", { class: `area ${className}` }) : null,
      line: svg("path", { class: `line ${className}` }),
    };
  }

  // A slider in time: the arrow keys do what the pointer does, and a screen reader says the values.
  listen() {
    const attributes = { tabindex: 0, role: "slider", "aria-label": `${this.title}, last 5 minutes`, "aria-valuemin": -300, "aria-valuemax": 0 };
    for (const [name, value] of Object.entries(attributes)) this.host.setAttribute(name, value);
    this.host.addEventListener("pointermove", (event) => this.point(event));
    for (const name of ["pointerleave", "blur"]) this.host.addEventListener(name, () => cursor.set(null));
    this.host.addEventListener("keydown", (event) => this.step(event));
    cursor.addEventListener("change", () => this.drawCursor());
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const fraction = (event.clientX - box.left) / box.width;
    cursor.set(nearest(this.points, this.endMs - WINDOW_MS * (1 - fraction))?.at_ms ?? null);
  }

  step(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageDown: -30, PageUp: 30, Home: -Infinity, End: Infinity, Escape: 0 };
    if (!(event.key in steps) || !this.points.length) return;
    event.preventDefault();
    if (event.key === "Escape") return cursor.set(null);
    const last = this.points.length - 1;
    const from = cursor.atMs === null ? last : this.points.indexOf(nearest(this.points, cursor.atMs));
    cursor.set(this.points[Math.min(last, Math.max(0, from + steps[event.key]))].at_ms);
  }

  draw(points, endMs) {
    // After a pause of the conductor 300 points reach further back than the chart does.
    this.points = points.filter((point) => point.at_ms >= endMs - WINDOW_MS);
    this.endMs = endMs;
    const top = this.ceiling ?? this.scale();
    this.lines.forEach((line, index) => this.drawLine(this.paths[index], this.runs(line, top)));
    setText(this.top, this.format(top));
    setText(this.half, this.format(top * this.middle));
    this.none.hidden = this.paths.some((paths) => paths.line.getAttribute("d"));
    this.drawCursor();
  }

  scale() {
    const values = this.points.flatMap((_, index) => this.lines.map((line) => this.valueAt(index, line) ?? 0));
    return niceCeiling(values.reduce((most, value) => Math.max(most, value), this.floor));
  }

  x(atMs) {
    return WIDTH * (1 - (this.endMs - atMs) / WINDOW_MS);
  }

  /** Unbroken stretches of the line, each a list of "x,y". */
  runs(line, top) {
    const runs = [];
    let lastMs = -Infinity;
    for (const [index, point] of this.points.entries()) {
      const value = this.valueAt(index, line);
      if (value === null) continue;
      if (point.at_ms - lastMs > GAP_MS) runs.push([]);
      const y = HEIGHT * (1 - Math.min(1, value / top));
      runs.at(-1).push([this.x(point.at_ms).toFixed(1), y.toFixed(1)]);
      lastMs = point.at_ms;
    }
    return runs;
  }

  valueAt(index, line) {
    if (!line.over) return valueOf(this.points[index], line);
    const recent = this.points.slice(Math.max(0, index + 1 - line.over), index + 1);
    return recent.reduce((sum, point) => sum + valueOf(point, line), 0) / recent.length;
  }

  drawLine({ area, line }, runs) {
    // "h0": a stretch of one point is a dot.
    line.setAttribute("d", runs.map((run) => `M${run.join("L")}h0`).join(""));
    const closed = (run) => `M${run[0][0]},${HEIGHT}L${run.join("L")}V${HEIGHT}Z`;
    area?.setAttribute("d", runs.map(closed).join(""));
  }

  drawCursor() {
    const at = cursor.atMs === null ? null : nearest(this.points, cursor.atMs);
    this.mark.setAttribute("d", at ? `M${this.x(at.at_ms).toFixed(1)} 0V${HEIGHT}` : "");
    setText(this.now, at ? `${clock(at.at_ms)} UTC` : "now");
    this.host.setAttribute("aria-valuenow", at ? Math.round((at.at_ms - this.endMs) / 1000) : 0);
    const shown = at ?? this.points.at(-1);
    this.host.setAttribute("aria-valuetext", shown ? `${clock(shown.at_ms)} UTC: ${this.describe(shown)}` : "no data yet");
  }
}
