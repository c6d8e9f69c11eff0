// What the page knows; the one place that reads the messages' shape (telemetry/live.py).

const POINTS = 300;
const ROWS = 50;

export const FILTERS = {
  all: () => true,
  failover: (request) => request.fallback_used,
  failed: (request) => !request.success,
};

export class Store {
  live = null;
  series = [];
  // A list for each filter: on a busy service failures would scroll away within a second.
  requests = { all: [], failover: [], failed: [] };
  status = new Map();  // by model name, from GET /api/v1/ai/models/status

  apply({ type, data }) {
    if (type === "snapshot") this.series = data.series;
    else this.append(data.series);
    this.keep(data.recent);
    this.live = data;
  }

  append(points) {
    const last = this.series.at(-1)?.at_ms ?? 0;
    this.series.push(...points.filter((point) => point.at_ms > last));
    this.series.splice(0, this.series.length - POINTS);
  }

  keep(recent) {
    for (const request of recent) request.key = `${request.request_id} ${request.at_ms} ${request.kind}`;
    for (const [name, admits] of Object.entries(FILTERS)) {
      const known = new Set(this.requests[name].map((request) => request.key));
      const fresh = recent.filter((request) => admits(request) && !known.has(request.key));
      this.requests[name] = [...fresh, ...this.requests[name]].slice(0, ROWS);
    }
  }
}
