// The last requests: newest first, each with the reason for its model.

import { clock, count, dollars, duration, micros } from "./format.js";
import { el, icon, setText, simulatedMark, stateMark } from "./dom.js";
import { FILTERS } from "./store.js";

const NONE = {
  failover: "No request has needed another model since this page opened.",
  failed: "No request has failed since this page opened.",
};

const body = document.getElementById("requests");
const rows = new Map();
// On a busy service every row is new, and a list that flashes as a whole tells nothing.
const MOST_HIGHLIGHTED = 5;
let filter = "all";

function cell(label, className, ...children) {
  const node = el("td", className, ...children);
  node.dataset.label = label;
  return node;
}

/** Who was asked, in order, where it was more than one. */
function failoverPath({ attempts }) {
  if (attempts.length < 2) return null;
  const marks = attempts.flatMap((attempt, index) => [index ? icon("arrow") : null, step(attempt)]);
  return el("span", "path", el("span", "visually-hidden", "Asked in turn: "), ...marks);
}

function step({ model, endpoint, duration_ms: ms, error_type: error }) {
  const outcome = error ? `${error} after ${duration(ms)}` : `answered in ${duration(ms)}`;
  return el("span", `step step-${error ? "failed" : "ok"}`,
    icon(error ? "failed" : "ok"), `${model} `, el("em", "", `${endpoint}, ${outcome}`));
}

function modelCell(request) {
  const marks = [
    el("span", "kind", request.kind === "select" ? "select only" : request.task_type),
    request.priority !== "normal" ? el("span", "kind", request.priority) : null,
    request.fallback_used ? el("span", "kind kind-warn", "failover") : null,
    request.degraded ? el("span", "kind kind-warn", "degraded") : null,
    request.simulated ? simulatedMark() : null,
  ];
  return cell("Model and why", "why",
    el("span", "name", request.selected_model || "none"), ...marks.filter(Boolean),
    el("span", "reason", request.reason || "No reason was recorded."),
    failoverPath(request) ?? el("span", "detail bad", request.error_type));
}

function statusCell(request) {
  const mark = request.success ? stateMark("ok", String(request.status)) : stateMark("failed", String(request.status));
  return cell("Status", "figures", mark);
}

function newRow(request) {
  const used = request.prompt_tokens + request.completion_tokens;
  const tokens = used ? `${count(request.prompt_tokens)} → ${count(request.completion_tokens)}` : "none";
  const time = request.kind === "select" ? micros(request.selection_time_us) : duration(request.response_time_ms);
  const row = el("tr", "",
    cell("Time", "figures quiet", clock(request.at_ms)),
    modelCell(request), statusCell(request),
    cell("Latency", "number figures", time),
    cell("Tokens", "number figures", tokens),
    cell("Cost", "number figures", dollars(request.cost_usd)));
  row.dataset.failed = !request.success;
  row.title = `Request ${request.request_id}`;
  return row;
}

/** Draw the list the filter asks for; rows that stay are left alone. */
export function drawRequests(store) {
  const wanted = store.requests[filter];
  const keys = new Set(wanted.map((request) => request.key));
  for (const [key, row] of rows) if (!keys.has(key)) row.remove(), rows.delete(key);
  const fresh = wanted.filter((request) => !rows.has(request.key));
  for (const request of fresh) rows.set(request.key, newRow(request));
  if (fresh.length <= MOST_HIGHLIGHTED) for (const { key } of fresh) rows.get(key).classList.add("fresh");
  wanted.forEach((request, index) => {
    const row = rows.get(request.key);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  summarise(store);
}

function summarise(store) {
  const any = store.requests.all.length > 0;
  document.getElementById("requests-empty").hidden = any;
  document.getElementById("requests-table").hidden = !store.requests[filter].length;
  const none = document.getElementById("requests-none");
  none.hidden = !any || store.requests[filter].length > 0;
  setText(none, NONE[filter] ?? "");
  setText(document.getElementById("requests-note"), any ? "times in UTC" : "");
}

export function onFilter(changed) {
  for (const input of document.querySelectorAll("input[name=filter]")) {
    input.addEventListener("change", () => {
      filter = input.value in FILTERS ? input.value : "all";
      changed();
    });
  }
}
