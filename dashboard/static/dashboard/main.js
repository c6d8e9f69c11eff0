// The live page: messages come in, at most one paint a tick goes out.

import { drawModels } from "./models.js";
import { drawSavings, drawSpent } from "./savings.js";
import { drawRequests, onFilter } from "./requests.js";
import { announceChanges, announceLink, drawLink, drawServices, drawSpool } from "./status.js";
import { Feed } from "./feed.js";
import { metricPanels } from "./metrics.js";
import { poll } from "./poll.js";
import { Store } from "./store.js";
import { el, fill, icon } from "./dom.js";

const HEALTH_EVERY_MS = 5_000;
const STATUS_EVERY_MS = 10_000;
const COSTS_EVERY_MS = 30_000;

const store = new Store();
const drawMetrics = metricPanels();
let frozenMs = 0;
let scheduled = false;
let first = true;

function paint() {
  scheduled = false;
  if (!store.live || frozenMs) return;
  drawMetrics(store);
  drawModels(store);
  drawRequests(store);
  drawSpool(store.live.spool);
  document.getElementById("simulated").hidden = !store.live.simulated;
  announceChanges(store.live);
  drawLink(feed.link, store.live, frozenMs);
  document.body.toggleAttribute("data-painted", true);
  if (first) requestAnimationFrame(() => document.body.toggleAttribute("data-moving", true));
  first = false;
}

// A hidden tab takes messages in but draws nothing until it is looked at.
function schedule() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  requestAnimationFrame(paint);
}

function received(message) {
  store.apply(message);
  schedule();
}

function linkChanged(link) {
  announceLink(link);
  drawLink(link, store.live, frozenMs);
}

function pauseOrResume() {
  frozenMs = frozenMs ? 0 : Date.now();
  const button = document.getElementById("pause");
  button.setAttribute("aria-pressed", Boolean(frozenMs));
  fill(button, frozenMs, () => [icon(frozenMs ? "play" : "pause"), el("span", "", frozenMs ? "Resume" : "Pause")]);
  drawLink(feed.link, store.live, frozenMs);
  schedule();
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  const label = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.textContent = "Copied";
  } catch {
    // Without a secure context there is no clipboard: select it, and the reader's keys do the rest.
    getSelection().selectAllChildren(source);
    label.textContent = "Selected";
  }
  setTimeout(() => { label.textContent = "Copy"; }, 2000);
}

const address = new URL("/ws/live", location.href);
address.protocol = address.protocol.replace("http", "ws");
const feed = new Feed(address, { onMessage: received, onLink: linkChanged });

document.getElementById("pause").addEventListener("click", pauseOrResume);
document.getElementById("copy").addEventListener("click", (event) => copy(event.currentTarget));
document.addEventListener("visibilitychange", schedule);
setInterval(() => drawLink(feed.link, store.live, frozenMs), 1000);
onFilter(() => store.live && drawRequests(store));

poll("/api/v1/health", HEALTH_EVERY_MS, drawServices);
poll("/api/v1/ai/models/status", STATUS_EVERY_MS, (answer) => {
  store.status = new Map((answer?.models ?? []).map((model) => [model.model_name, model]));
});
poll("/api/v1/ai/analytics/savings?groupBy=day", COSTS_EVERY_MS, drawSavings);
poll("/api/v1/ai/analytics/costs", COSTS_EVERY_MS, drawSpent);
