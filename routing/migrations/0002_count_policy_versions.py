"""Let the database count policy versions, so that no way of writing can forget to."""

from django.db import migrations

TABLES = ("model", "endpoint", "offering", "fallbackchain", "chainentry", "routingprofile")

# Taking the version's row first makes writers queue before they hold anything else: two of them
# that touch the same rows in different order wait for each other instead of deadlocking.
LOCK = """
CREATE FUNCTION routing_policy_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO routing_policyversion (id, version, changed_in, seeded)
        VALUES (1, 0, 0, '{}') ON CONFLICT (id) DO NOTHING;
    PERFORM 1 FROM routing_policyversion WHERE id = 1 FOR UPDATE;
    RETURN NULL;
END $$
"""

# One transaction counts once, however many rows it changes.
COUNT = """
CREATE FUNCTION routing_policy_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE routing_policyversion
        SET version = version + 1,
            changed_in = pg_current_xact_id()::text::bigint,
            changed_at = now()
        WHERE id = 1 AND changed_in <> pg_current_xact_id()::text::bigint;
    RETURN NULL;
END $$
"""

TRIGGERS = """
CREATE TRIGGER policy_lock BEFORE INSERT OR UPDATE OR DELETE ON routing_{table}
    FOR EACH STATEMENT EXECUTE FUNCTION routing_policy_lock();
CREATE TRIGGER policy_added AFTER INSERT OR DELETE ON routing_{table}
    FOR EACH ROW EXECUTE FUNCTION routing_policy_count();
CREATE TRIGGER policy_changed AFTER UPDATE ON routing_{table}
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION routing_policy_count();
"""

DROP = """
DROP TRIGGER policy_lock ON routing_{table};
DROP TRIGGER policy_added ON routing_{table};
DROP TRIGGER policy_changed ON routing_{table};
"""


class Migration(migrations.Migration):
    dependencies = [("routing", "0001_initial")]

    operations = [
        migrations.RunSQL(LOCK, "DROP FUNCTION routing_policy_lock()"),
        migrations.RunSQL(COUNT, "DROP FUNCTION routing_policy_count()"),
        *(
            migrations.RunSQL(TRIGGERS.format(table=table), DROP.format(table=table))
            for table in TABLES
        ),
    ]
