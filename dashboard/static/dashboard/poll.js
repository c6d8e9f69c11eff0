// What the feed does not tell is asked for, slowly, and only while somebody looks.

const LIMIT_MS = 4_000;

/** Ask every `everyMs`; `onAnswer` gets the JSON, or null when there was no usable answer. */
export function poll(url, everyMs, onAnswer) {
  let asking = false;
  async function ask() {
    if (document.hidden || asking) return;
    asking = true;
    onAnswer(await answerOf(url));
    asking = false;
  }
  setInterval(ask, everyMs);
  document.addEventListener("visibilitychange", ask);
  ask();
}

async function answerOf(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(LIMIT_MS), headers: { Accept: "application/json" } });
    // 503 is an answer too: it says which service is down.
    return response.ok || response.status === 503 ? await response.json() : null;
  } catch {
    return null;
  }
}
