"""A charge of a lease that is not known makes no window any more."""

from django.db import migrations

from routing.treasury import functions


class Migration(migrations.Migration):
    dependencies = [("routing", "0005_treasury")]

    operations = [migrations.RunSQL(functions.SETTLE, migrations.RunSQL.noop)]
