"""Keeps `current_load` and `memory_usage_mb` of each model's row up to date."""

from telemetry.database import AsyncConnection

WINDOW_S = 10
# Little's law: the requests in flight on average are the arrivals per second times the seconds each
# took. A request counts once it is finished, by the part of it that lies in the window.
REFRESH = f"""
WITH window_bounds AS (
    SELECT now() - interval '{WINDOW_S} seconds' AS since, now() AS until
), busy AS (
    SELECT selected_model, sum(greatest(0, extract(epoch FROM
               least(created_at + response_time_ms * interval '1 millisecond', until)
               - greatest(created_at, since)))) / {WINDOW_S} AS load
    FROM telemetry_orchestratorrequest, window_bounds
    WHERE created_at > since - interval '2 minutes' AND created_at <= until
      AND created_at + response_time_ms * interval '1 millisecond' > since
      AND kind <> 'select'
    GROUP BY selected_model
), memory AS (
    SELECT * FROM unnest(%(models)s::text[], %(megabytes)s::float8[]) AS m (model, mb)
), fresh AS (
    SELECT t.id, coalesce(round(busy.load::numeric, 3), 0)::float8 AS load,
           coalesce(memory.mb, 0) AS mb
    FROM telemetry_modelmetric AS t
    LEFT JOIN busy ON busy.selected_model = t.model_name
    LEFT JOIN memory ON memory.model = t.model_name
    WHERE (t.current_load, t.memory_usage_mb) IS DISTINCT FROM
          (coalesce(round(busy.load::numeric, 3), 0)::float8, coalesce(memory.mb, 0))
    -- In the shipper's order, so that the two never wait for each other in a circle.
    ORDER BY t.model_name FOR UPDATE OF t
)
UPDATE telemetry_modelmetric AS t
SET current_load = fresh.load, memory_usage_mb = fresh.mb, updated_at = now()
FROM fresh WHERE t.id = fresh.id
"""  # noqa: S608 - only the constant above is filled in


async def refresh_loads(connection: AsyncConnection, memory_mb: dict[str, float]) -> None:
    """Update the rows whose load or memory changed; models not in `memory_mb` use none."""
    await connection.execute(
        REFRESH, {"models": list(memory_mb), "megabytes": list(memory_mb.values())}
    )
