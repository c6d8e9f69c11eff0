// Numbers as people read them. Every function takes null for "nothing to measure".

export const NOTHING = "–";

const fixed = (value, digits) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

const absent = (value) => value === null || value === undefined || Number.isNaN(value);

export function rate(perSecond) {
  if (absent(perSecond)) return NOTHING;
  if (perSecond > 0 && perSecond < 0.05) return "<0.1";
  if (perSecond >= 10_000) return `${fixed(perSecond / 1000, 1)}k`;
  return fixed(perSecond, perSecond > 0 && perSecond < 100 ? 1 : 0);
}

export function count(value) {
  if (absent(value)) return NOTHING;
  if (value >= 1e6) return `${fixed(value / 1e6, 1)}M`;
  return value >= 100_000 ? `${fixed(value / 1000, 0)}k` : fixed(value, 0);
}

/** [value, unit], so that the unit may be set smaller. */
export function durationParts(ms) {
  if (absent(ms)) return [NOTHING, ""];
  if (ms < 1000) return [ms < 1 ? "<1" : fixed(ms, 0), "ms"];
  if (ms < 60_000) return [fixed(ms / 1000, ms < 10_000 ? 2 : 1), "s"];
  return [fixed(ms / 60_000, 1), "min"];
}

export const duration = (ms) => durationParts(ms).join(" ").trim();

export function micros(us) {
  if (absent(us)) return NOTHING;
  return us < 1000 ? `${fixed(us, 0)} µs` : `${fixed(us / 1000, 1)} ms`;
}

export function percent(fraction) {
  if (absent(fraction)) return NOTHING;
  const value = fraction * 100;
  if (value > 0 && value < 0.1) return "<0.1%";
  return `${fixed(value, value > 0 && value < 10 ? 1 : 0)}%`;
}

export const wholePercent = (value) => (absent(value) ? NOTHING : `${fixed(value, 0)}%`);

export function gigabytes(value) {
  return absent(value) ? NOTHING : `${fixed(value, value < 100 ? 1 : 0)} GB`;
}

export function bytes(value) {
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${fixed(value / 1000, 0)} kB` : `${fixed(value / 1e6, 1)} MB`;
}

export function dollars(usd) {
  if (absent(usd)) return "unknown";
  if (usd === 0) return "$0";
  if (usd >= 0.01) return `$${fixed(usd, usd < 1 ? 3 : 2)}`;
  return usd < 1e-8 ? "<$0.00000001" : `$${usd.toFixed(Math.min(9, 1 - Math.floor(Math.log10(usd))))}`;
}

export const clock = (atMs) => new Date(atMs).toISOString().slice(11, 19);

export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
