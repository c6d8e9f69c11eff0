// What the last 30 days cost and saved: asked for now and then, for sums change slowly.

import { count, dollars, NOTHING, percent } from "./format.js";
import { fill, setText, svg } from "./dom.js";

const WIDTH = 100;
const HEIGHT = 28;
const GAP = 0.25;  // of a day's width

const panel = document.getElementById("savings");
const value = (name) => panel.querySelector(`[data-value=${name}]`);

const signed = (usd) => (usd < 0 ? `−${dollars(-usd)}` : dollars(usd));

function saving({ requestCount, savedUsd, savedPercent }) {
  if (!requestCount) return NOTHING;
  const share = savedPercent === null ? "" : ` (${savedPercent < 0 ? "−" : ""}${percent(Math.abs(savedPercent) / 100)})`;
  return `${signed(savedUsd)}${share}`;
}

function caveat({ simulatedCount, notComparedCount }) {
  if (simulatedCount) return `${count(simulatedCount)} simulated, at no cost`;
  return notComparedCount ? `${count(notComparedCount)} without a known price` : "";
}

/** Two bars a day, the baseline's behind what was spent; the figures beside them say the same. */
function bars(groups) {
  const most = Math.max(...groups.flatMap((day) => [day.costUsd, day.baselineUsd]), 0);
  const width = WIDTH / Math.max(groups.length, 1);
  const bar = (index, usd, className) => {
    const height = most ? (HEIGHT * usd) / most : 0;
    return svg("rect", { class: className, x: index * width, y: HEIGHT - height, width: width * (1 - GAP), height });
  };
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  groups.forEach((day, index) => drawing.append(bar(index, day.baselineUsd, "baseline"), bar(index, day.costUsd, "spent")));
  return drawing;
}

/** `answer` is GET …/analytics/savings?groupBy=day, or null when there is none. */
export function drawSavings(answer) {
  const total = answer?.total;
  const known = Boolean(total?.requestCount);
  setText(value("baseline"), known ? dollars(total.baselineUsd) : NOTHING);
  setText(value("saved"), known ? saving(total) : NOTHING);
  setText(value("measured"), known ? saving(total.measured) : NOTHING);
  setText(value("estimated"), known ? saving(total.estimated) : NOTHING);
  setText(value("note"), total ? caveat(total) : "");
  panel.dataset.loss = Boolean(known && total.savedUsd < 0);
  const days = answer?.groups ?? [];
  fill(value("days"), JSON.stringify(days.map((day) => [day.costUsd, day.baselineUsd])), () => bars(days));
}

/** `answer` is GET …/analytics/costs, or null when there is none. */
export function drawSpent(answer) {
  setText(value("spent"), answer?.total ? dollars(answer.total.costUsd) : NOTHING);
}
