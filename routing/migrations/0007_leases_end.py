"""A holder is told that its lease was given up; what is charged to none is counted apart."""

import uuid

import django.db.models.functions.datetime
from django.db import migrations, models

from routing.treasury import functions


class Migration(migrations.Migration):
    dependencies = [("routing", "0006_settle_known_leases")]

    operations = [
        migrations.CreateModel(
            name="StrayCharge",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("nusd", models.BigIntegerField()),
                ("at", models.DateTimeField(auto_now_add=True, db_default=django.db.models.functions.datetime.Now())),
            ],
            options={"ordering": ["at"]},
        ),
        migrations.RunSQL(functions.GRANT, migrations.RunSQL.noop),
        migrations.RunSQL(functions.SETTLE, migrations.RunSQL.noop),
    ]
