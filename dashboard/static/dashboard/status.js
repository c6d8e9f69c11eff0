// The bar: connection, services, and what a screen reader is told when a state changes.

import { ago, bytes, clock } from "./format.js";
import { el, fill, setText, stateMark } from "./dom.js";

const WORDS = { ok: "ok", error: "down", unknown: "unknown" };
const SERVICES = { database: "PostgreSQL", redis: "Redis", ollama: "Ollama" };
const LINK_WORDS = { connecting: "Connecting…", live: "Live", stale: "Stale", reconnecting: "Reconnecting…", hidden: "Resting" };

const byId = (id) => document.getElementById(id);

let announced = null;

/** Tell of changes between two messages; the first one changes nothing. */
export function announceChanges(live) {
  const now = new Map([["Memory pressure", live.memory.level]]);
  for (const model of live.models) now.set(`${model.model_name}: breaker`, model.breaker);
  if (announced) say([...now].filter(([key, state]) => announced.has(key) && announced.get(key) !== state));
  announced = now;
}

function say(changes) {
  if (changes.length) byId("announcer").textContent = changes.slice(0, 3).map((change) => change.join(" ")).join(". ");
}

function headline(link, frozenMs) {
  if (frozenMs) return `Paused at ${clock(frozenMs)} UTC`;
  return link.state === "reconnecting" ? `Reconnecting since ${clock(link.sinceMs)} UTC` : LINK_WORDS[link.state];
}

function conductorSilent({ at_ms: atMs }) {
  const since = atMs ? `for ${ago(Date.now() - atMs)}. The figures are of ${clock(atMs)} UTC` : "yet";
  return `The conductor has not reported ${since}. Its log says why; \`ai-orchestra health\` what is up.`;
}

function explanation(link, live, frozenMs) {
  const shown = live ? ` The figures are of ${clock(live.at_ms)} UTC.` : "";
  if (live?.stale) return conductorSilent(live);
  if (link.state === "stale") return `No update for ${ago(Date.now() - link.lastMs)}.${shown}`;
  if (link.state === "reconnecting") {
    const wait = link.retryAtMs > Date.now() ? `; next attempt in ${ago(link.retryAtMs - Date.now())}` : "";
    return `Connection lost${wait}.${shown}`;
  }
  if (link.state === "connecting" && Date.now() - link.sinceMs > 2000) return "The service does not answer on /ws/live. Trying again.";
  return frozenMs ? "Updates are held back; the service runs on. Resume to catch up." : "";
}

/** Show the state of the link; `frozenMs` is when the reader paused, or 0. */
export function drawLink(link, live, frozenMs) {
  const outdated = !["live", "hidden"].includes(link.state);
  document.body.dataset.link = link.state;
  document.body.toggleAttribute("data-outdated", Boolean(live && outdated));
  document.body.toggleAttribute("data-frozen", Boolean(frozenMs));
  setText(byId("link-text"), headline(link, frozenMs));
  const notice = explanation(link, live, frozenMs);
  byId("notice").hidden = !notice;
  setText(byId("notice"), notice);
}

export function announceLink(link) {
  byId("announcer").textContent = `Connection: ${LINK_WORDS[link.state]}`;
}

/** `health` is GET /api/v1/health, or null when it does not answer. */
export function drawServices(health) {
  const states = Object.entries(SERVICES).map(([key, label]) => [label, health?.services?.[key] ?? "unknown"]);
  fill(byId("services"), JSON.stringify(states), () => states.map(([label, state]) => {
    const icon = state === "ok" ? "ok" : state === "error" ? "failed" : "unknown";
    return el("li", "", stateMark(icon, label), el("span", { ok: "visually-hidden", error: "bad" }[state] ?? "quiet", WORDS[state] ?? state));
  }));
}

/** Records not yet in PostgreSQL are worth a word only when they pile up. */
export function drawSpool({ backlog_bytes: waiting, corrupt }) {
  const text = corrupt ? `${corrupt} damaged records set aside` : waiting > 1e6 ? `${bytes(waiting)} of records wait for PostgreSQL` : "";
  byId("spool").hidden = !text;
  setText(byId("spool"), text);
}
