"""A holder is told that its lease was given up."""

from django.db import migrations

from routing.treasury import functions


class Migration(migrations.Migration):
    dependencies = [("routing", "0006_settle_known_leases")]

    operations = [migrations.RunSQL(functions.GRANT, migrations.RunSQL.noop)]
