// The four panels at the top: throughput, latency, errors, memory.

import { Chart, cursor, nearest } from "./chart.js";
import { count, duration, durationParts, gigabytes, micros, percent, rate, wholePercent } from "./format.js";
import { el, fill, setText, stateMark } from "./dom.js";

// Single requests in single seconds would draw a comb.
const SMOOTHED_S = 5;
const LEVEL_ICONS = { normal: "ok", elevated: "half-open", high: "failed", critical: "failed" };

const part = (panel, name) => document.querySelector(`#${panel} [data-${name}]`);
const value = (panel, name) => document.querySelector(`#${panel} [data-value=${name}]`);

/** The figures under a headline, each {label, className, show(point, live)}. */
class Legend {
  constructor(host, entries) {
    this.entries = entries.map((entry) => ({ ...entry, node: el("dd", "") }));
    for (const { label, className, node } of this.entries) {
      const key = className ? el("i", `key ${className}`) : null;
      host.append(el("div", "", el("dt", "", key, label), node));
    }
  }

  show(point, live, past) {
    for (const { show, node, present } of this.entries) {
      // Hidden, not emptied: the figures beside it stay where they are.
      node.style.visibility = past && present ? "hidden" : "";
      setText(node, show(point, live));
    }
  }
}

class Panel {
  constructor(name, legend, chart) {
    this.legend = new Legend(part(name, "series"), legend);
    const described = legend.filter((entry) => !entry.present);
    const describe = (point) => described.map(({ label, show }) => `${label} ${show(point)}`).join(", ");
    this.chart = new Chart(part(name, "chart"), { ...chart, describe });
  }

  draw(store) {
    this.store = store;
    this.chart.draw(store.series, store.live.at_ms);
    this.point();
  }

  // Under the cursor the figures are those of its time.
  point() {
    if (!this.store) return;
    const past = cursor.atMs !== null;
    const shown = past ? nearest(this.store.series, cursor.atMs) : this.store.series.at(-1);
    if (shown) this.legend.show(shown, this.store.live, past);
  }
}

const milliseconds = (key) => (point) => duration(point[key]);

const LATENCY_LINES = [
  { key: "p50_ms", className: "p50", label: "p50" },
  { key: "p95_ms", className: "p95", label: "p95" },
  { key: "p99_ms", className: "p99", label: "p99" },
];

function throughput() {
  const legend = [
    { label: "last second", className: "rps", show: (point) => `${rate(point.rps)}/s` },
    { label: "last minute", present: true, show: (_, live) => count(live.models.reduce((sum, model) => sum + model.requests, 0)) },
    { label: "deciding, p95", present: true, show: (_, live) => micros(live.selection_p95_us) },
  ];
  const lines = [{ key: "rps", className: "rps", area: true, over: SMOOTHED_S }];
  return new Panel("throughput", legend, { title: "Throughput", lines, floor: 1, format: (top) => `${rate(top)}/s` });
}

function latency() {
  const legend = LATENCY_LINES.map((line) => ({ ...line, show: milliseconds(line.key) }));
  return new Panel("latency", legend, { title: "Latency", lines: LATENCY_LINES, floor: 10, format: duration });
}

function errors() {
  const legend = [
    { label: "failed", className: "failed", show: (point) => percent(point.error_rate) },
    { label: "saved by failover", present: true, show: (_, live) => percent(live.fallback_rate) },
  ];
  const lines = [{ key: "error_rate", className: "failed", area: true }];
  return new Panel("errors", legend, { title: "Error rate", lines, floor: 0.05, format: percent });
}

function memory() {
  const legend = [
    { label: "memory", className: "pressure", show: (point) => percent(point.pressure) },
    { label: "CPU", className: "cpu", show: (point) => wholePercent(point.cpu_percent) },
    { label: "available", present: true, show: (_, { memory: m }) => `${gigabytes(m.available_gb)} of ${gigabytes(m.total_gb)}` },
    { label: "swap", present: true, show: (_, live) => wholePercent(live.memory.swap_percent) },
  ];
  const lines = [{ key: "cpu_percent", unit: 100, className: "cpu" }, { key: "pressure", className: "pressure", area: true }];
  const bands = [
    { from: 0.7, to: 0.8, className: "band elevated" },
    { from: 0.8, to: 0.9, className: "band high" },
    { from: 0.9, to: 1, className: "band critical" },
  ];
  return new Panel("memory", legend, { title: "Memory pressure", lines, bands, middle: 0.7, floor: 1, ceiling: 1, format: percent });
}

function headlines(live) {
  setText(value("throughput", "now"), rate(live.throughput_rps));
  const [figure, unit] = durationParts(live.p95_ms);
  setText(value("latency", "now"), figure);
  setText(value("latency", "unit"), `${unit} p95`.trim());
  setText(value("errors", "now"), percent(live.error_rate));
  setText(value("errors", "unit"), live.error_rate === null ? `no requests in ${live.window_s} s` : `of requests in ${live.window_s} s`);
  document.getElementById("errors").dataset.level = errorLevel(live.error_rate);
}

function errorLevel(share) {
  if (!share || share < 0.01) return "normal";
  return share < 0.05 ? "elevated" : "critical";
}

function gauge({ pressure, level }) {
  setText(value("memory", "now"), percent(pressure));
  fill(value("memory", "level"), level, () => stateMark(level, level, LEVEL_ICONS[level]));
  document.getElementById("memory").dataset.level = level;
  const meter = document.getElementById("gauge");
  meter.setAttribute("aria-valuenow", Math.round(pressure * 100));
  meter.setAttribute("aria-valuetext", `${percent(pressure)}, ${level}`);
  meter.style.setProperty("--pressure", Math.min(1, pressure));
}

/** Returns draw(store); called at most once a tick. */
export function metricPanels() {
  const panels = [throughput(), latency(), errors(), memory()];
  cursor.addEventListener("change", () => panels.forEach((panel) => panel.point()));
  return (store) => {
    headlines(store.live);
    gauge(store.live.memory);
    panels.forEach((panel) => panel.draw(store));
  };
}
