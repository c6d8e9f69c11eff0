// The models table: one row a model, kept between ticks.

import { ago, count, duration, percent, rate } from "./format.js";
import { el, fill, setText, simulatedMark, stateMark } from "./dom.js";

const COLUMNS = ["Model", "Health", "Breaker", "In memory", "Load", "Requests", "p95 time"];

const body = document.getElementById("models");
const rows = new Map();

function newRow(name) {
  const head = el("th", "");
  head.scope = "row";
  const cells = COLUMNS.slice(1).map((label) => {
    const cell = el("td", label === "Requests" || label === "p95 time" ? "number" : "");
    cell.dataset.label = label;
    return cell;
  });
  const endpoints = el("span", "detail");
  head.append(el("span", "name", name), endpoints);
  return { node: el("tr", "", head, ...cells), endpoints, cells };
}

const probeIn = (ms) => (ms > 500 ? `, probe in ${ago(ms)}` : ", probe due");

function endpointMarks(endpoints, nowMs) {
  if (!endpoints.length) return [el("span", "", "offered by no endpoint")];
  return endpoints.flatMap(({ endpoint, up, breaker, simulated, open_until_ms: until }) => {
    const wait = breaker === "open" && until ? probeIn(until - nowMs) : "";
    const word = up === false ? "down" : breaker === "closed" ? "" : `${breaker}${wait}`;
    return el("span", "endpoint", endpoint, simulated && simulatedMark(), word && el("em", "", word));
  });
}

const signatureOf = (endpoints, nowMs) =>
  JSON.stringify(endpoints.map((e) => [e, Math.max(0, Math.round(((e.open_until_ms ?? 0) - nowMs) / 1000))]));

function loadBar(model, busiest, inFlight) {
  if (!model.rps && !inFlight) return el("span", "quiet", "idle");
  const bar = el("span", "load-bar");
  bar.style.setProperty("--share", busiest > 0 ? model.rps / busiest : 0);
  const waiting = inFlight >= 0.05 ? el("span", "detail", `${rate(inFlight)} in flight`) : null;
  return [el("span", "figures", `${rate(model.rps)}/s`), bar, waiting].filter(Boolean);
}

function update(row, model, status, { busiest, nowMs }) {
  const [health, breaker, memory, load, requests, time] = row.cells;
  row.node.dataset.healthy = model.healthy;
  fill(row.endpoints, signatureOf(model.endpoints, nowMs), () => endpointMarks(model.endpoints, nowMs));
  fill(health, model.healthy, () => (model.healthy ? stateMark("ok", "healthy") : stateMark("failed", "unavailable")));
  fill(breaker, model.breaker, () => stateMark(model.breaker, model.breaker));
  fill(memory, model.loaded, () => (model.loaded ? stateMark("loaded", "loaded") : stateMark("cold", "cold")));
  const inFlight = status?.current_load ?? 0;
  fill(load, `${model.rps} ${busiest} ${inFlight}`, () => loadBar(model, busiest, inFlight));
  const failures = model.errors ? `${percent(model.error_rate)} failed` : "";
  const total = status?.request_count ? `${count(status.request_count)} in all` : "";
  fill(requests, `${model.requests} ${failures} ${total}`, () => [
    el("span", model.requests ? "figures" : "figures quiet", count(model.requests)),
    failures ? el("span", "detail bad", failures) : el("span", "detail", total),
  ]);
  const average = status?.request_count ? status.avg_response_time_ms : null;
  fill(time, `${average} ${model.p95_ms}`, () => [
    el("span", model.p95_ms === null ? "figures quiet" : "figures", duration(model.p95_ms)),
    average === null ? "" : el("span", "detail", `avg ${duration(average)}`),
  ]);
}

// Trouble first, then what is in use, each by name: rows move only when that changes.
function rank(model) {
  if (!model.healthy || model.breaker !== "closed") return 0;
  return model.requests ? 1 : 2;
}

/** Draw the table; `store.status` adds what is counted since the beginning. */
export function drawModels(store) {
  const { at_ms: nowMs } = store.live;
  const models = store.live.models.toSorted((one, other) => rank(one) - rank(other));
  const busiest = Math.max(0, ...models.map((model) => model.rps));
  const names = new Set(models.map((model) => model.model_name));
  for (const [name, row] of rows) if (!names.has(name)) row.node.remove(), rows.delete(name);
  models.forEach((model, index) => {
    const name = model.model_name;
    if (!rows.has(name)) rows.set(name, newRow(name));
    const row = rows.get(name);
    if (body.children[index] !== row.node) body.insertBefore(row.node, body.children[index] ?? null);
    update(row, model, store.status.get(name), { busiest, nowMs });
  });
  summarise(models);
}

function summarise(models) {
  document.getElementById("models-empty").hidden = models.length > 0;
  const healthy = models.filter((model) => model.healthy).length;
  const loaded = models.filter((model) => model.loaded).length;
  setText(document.getElementById("models-note"), models.length ? `${healthy} of ${models.length} healthy, ${loaded} in memory; figures of the last minute` : "");
}
