"""The SQL that moves money: functions in PostgreSQL, made by migrations 0005 to 0007.

Each is called in one statement, locks the window before its leases (two that waited for each other
in a circle would be ended by PostgreSQL), and may be called again when its answer was lost.

    limit >= spent + leased    when anything is granted
    leased = sum of (granted - settled) over the window's open leases
    spent  = sum of the charges of stored records
"""

GRANT = """
CREATE OR REPLACE FUNCTION orchestra_grant(
    p_window uuid, p_lease uuid, p_spool text, p_holder text,
    p_least bigint, p_most bigint, p_ahead bigint, p_ttl_s integer
) RETURNS TABLE (cut bigint, granted bigint, budget_limit bigint, spent bigint, leased bigint)
LANGUAGE plpgsql AS $$
DECLARE
    w routing_budgetwindow;
    l routing_lease;
    room bigint;
BEGIN
    SELECT * INTO w FROM routing_budgetwindow WHERE id = p_window FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO l FROM routing_lease WHERE id = p_lease FOR UPDATE;
    room := greatest(0, w.limit_nusd - w.spent_nusd - w.leased_nusd);
    -- The least that helps anybody, or nothing. What goes beyond what is waited for is a share of
    -- what is left, so that slices grow small where little is left.
    cut := CASE WHEN l.closed THEN 0
                WHEN room >= p_least THEN
                    least(room, p_most) + least(p_ahead, greatest(0, room - p_most) / 16)
                                          / greatest(p_least, 1) * greatest(p_least, 1)
                ELSE 0 END;
    IF cut > 0 THEN
        UPDATE routing_budgetwindow SET leased_nusd = leased_nusd + cut, updated_at = now()
        WHERE id = p_window AND spent_nusd + leased_nusd + cut <= limit_nusd;
        INSERT INTO routing_lease AS old
            (id, window_id, spool, holder, granted_nusd, expires_at)
        VALUES (p_lease, p_window, p_spool, p_holder, cut, now() + p_ttl_s * interval '1 second')
        ON CONFLICT (id) DO UPDATE SET
            granted_nusd = old.granted_nusd + excluded.granted_nusd,
            expires_at = excluded.expires_at;
    END IF;
    -- None: the lease was given up, and the holder is to take another.
    granted := CASE WHEN l.closed THEN NULL ELSE coalesce(l.granted_nusd, 0) + cut END;
    budget_limit := w.limit_nusd;
    spent := w.spent_nusd;
    leased := w.leased_nusd + cut;
    RETURN NEXT;
END $$
"""

GIVE_BACK = """
CREATE FUNCTION orchestra_give_back(p_lease uuid, p_keep bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    w uuid;
    l routing_lease;
    kept bigint;
BEGIN
    SELECT window_id INTO w FROM routing_lease WHERE id = p_lease;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM routing_budgetwindow WHERE id = w FOR UPDATE;
    SELECT * INTO l FROM routing_lease WHERE id = p_lease FOR UPDATE;
    kept := greatest(p_keep, l.settled_nusd);
    IF l.closed OR kept >= l.granted_nusd THEN
        RETURN l.granted_nusd;
    END IF;
    UPDATE routing_lease SET granted_nusd = kept WHERE id = p_lease;
    UPDATE routing_budgetwindow
    SET leased_nusd = leased_nusd - (l.granted_nusd - kept), updated_at = now() WHERE id = w;
    RETURN kept;
END $$
"""

SETTLE = """
CREATE OR REPLACE FUNCTION orchestra_settle(p_ids uuid[], p_nusd bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    paid record;
    freed bigint;
BEGIN
    PERFORM 1 FROM routing_budgetwindow
    WHERE id = ANY (p_ids)
       OR id IN (SELECT window_id FROM routing_lease WHERE id = ANY (p_ids))
    ORDER BY id FOR UPDATE;
    FOR paid IN
        SELECT p.id, p.nusd, l.window_id, l.granted_nusd, l.settled_nusd, l.closed
        FROM (SELECT id, sum(nusd)::bigint AS nusd
              FROM unnest(p_ids, p_nusd) AS u (id, nusd) GROUP BY id) p
        LEFT JOIN routing_lease l ON l.id = p.id
        ORDER BY coalesce(l.window_id, p.id), p.id
    LOOP
        IF paid.window_id IS NULL AND substr(paid.id::text, 15, 1) <> '5' THEN
            -- A lease that is gone, as after a backup was put back: its window is not known, and
            -- is not this id. It is counted apart.
            RAISE WARNING 'orchestra_settle: no lease %, which was charged % nano-dollars',
                paid.id, paid.nusd;
            INSERT INTO routing_straycharge AS old (id, nusd) VALUES (paid.id, paid.nusd)
            ON CONFLICT (id) DO UPDATE SET nusd = old.nusd + excluded.nusd;
            CONTINUE;
        ELSIF paid.window_id IS NULL THEN
            -- A soft budget's window (its id is of version 5, a lease's of version 4), which may
            -- not have been described yet.
            INSERT INTO routing_budgetwindow AS old (id, spent_nusd) VALUES (paid.id, paid.nusd)
            ON CONFLICT (id) DO UPDATE SET
                spent_nusd = old.spent_nusd + excluded.spent_nusd, updated_at = now();
        ELSE
            freed := CASE WHEN paid.closed THEN 0
                          ELSE least(paid.nusd, paid.granted_nusd - paid.settled_nusd) END;
            UPDATE routing_lease SET
                settled_nusd = settled_nusd + paid.nusd,
                granted_nusd = greatest(granted_nusd, settled_nusd + paid.nusd)
            WHERE id = paid.id;
            UPDATE routing_budgetwindow SET
                spent_nusd = spent_nusd + paid.nusd,
                leased_nusd = leased_nusd - freed,
                overrun_nusd = overrun_nusd + paid.nusd - freed,
                updated_at = now()
            WHERE id = paid.window_id;
        END IF;
        INSERT INTO routing_budgetspend AS old (window_id, at, nusd)
        SELECT id, date_trunc(CASE period WHEN 'hour' THEN 'minute' ELSE 'hour' END, now()),
               paid.nusd
        FROM routing_budgetwindow WHERE id = coalesce(paid.window_id, paid.id)
        ON CONFLICT (window_id, at) DO UPDATE SET nusd = old.nusd + excluded.nusd;
    END LOOP;
END $$
"""

# The holder is dead and all its records are stored, or an admin gives it up: what it had left is
# free again.
BURY = """
CREATE FUNCTION orchestra_bury(p_spool text, p_holder text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    l record;
    total bigint := 0;
BEGIN
    PERFORM 1 FROM routing_budgetwindow
    WHERE id IN (SELECT window_id FROM routing_lease
                 WHERE spool = p_spool AND holder = p_holder AND NOT closed)
    ORDER BY id FOR UPDATE;
    FOR l IN
        SELECT id, window_id, granted_nusd - settled_nusd AS free FROM routing_lease
        WHERE spool = p_spool AND holder = p_holder AND NOT closed ORDER BY id FOR UPDATE
    LOOP
        UPDATE routing_lease SET closed = true WHERE id = l.id;
        UPDATE routing_budgetwindow
        SET leased_nusd = leased_nusd - l.free, updated_at = now() WHERE id = l.window_id;
        total := total + l.free;
    END LOOP;
    RETURN total;
END $$
"""

# Describes a window; a policy older than what is known changes nothing.
DESCRIBE = """
CREATE FUNCTION orchestra_window(
    p_id uuid, p_budget text, p_period text, p_starts bigint, p_ends bigint,
    p_hard boolean, p_limit bigint, p_version bigint
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO routing_budgetwindow AS old
        (id, budget, period, starts_at, ends_at, hard, limit_nusd, policy_version)
    VALUES (p_id, p_budget, p_period, to_timestamp(p_starts), to_timestamp(p_ends),
            p_hard, p_limit, p_version)
    ON CONFLICT (id) DO UPDATE SET
        budget = excluded.budget, period = excluded.period,
        starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        hard = excluded.hard, limit_nusd = excluded.limit_nusd,
        policy_version = excluded.policy_version, updated_at = now()
    WHERE old.policy_version < excluded.policy_version
$$
"""

CREATE = (GRANT, GIVE_BACK, SETTLE, BURY, DESCRIBE)
NAMES = (
    "orchestra_grant", "orchestra_give_back", "orchestra_settle", "orchestra_bury",
    "orchestra_window",
)  # fmt: skip
