"""Records say who spent and what the baseline would have cost; sums by the minute, hour and day."""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

# What requests of before this migration add to the new tables. Their response times were not kept
# in buckets: percentiles begin with this migration.
FILL = """
INSERT INTO telemetry_request{table} (
    started_at, model_name, kind, request_count, success_count, fallback_count,
    response_time_total_ms, response_time_max_ms, prompt_tokens, completion_tokens, cost_nusd)
SELECT date_trunc('{unit}', started_at, 'UTC') AS began, model_name, kind, sum(request_count),
       sum(success_count), sum(fallback_count), sum(response_time_total_ms),
       max(response_time_max_ms), sum(prompt_tokens), sum(completion_tokens), sum(cost_nusd)
FROM telemetry_requestminute GROUP BY began, model_name, kind
"""
FILL_SPANS = """
INSERT INTO telemetry_requestspan (
    seconds, started_at, kind, request_count, success_count, fallback_count,
    response_time_total_ms, response_time_max_ms, prompt_tokens, completion_tokens, cost_nusd)
SELECT {seconds}, date_trunc('{unit}', started_at, 'UTC') AS began,
       CASE kind WHEN 'select' THEN kind ELSE 'call' END AS what, sum(request_count),
       sum(success_count), sum(fallback_count), sum(response_time_total_ms),
       max(response_time_max_ms), sum(prompt_tokens), sum(completion_tokens), sum(cost_nusd)
FROM telemetry_requestminute GROUP BY began, what
"""
KEY = ["started_at", "tenant", "model_name", "task_type", "kind"]
KNOWN = (
    "request_count", "success_count", "fallback_count", "response_time_total_ms",
    "response_time_max_ms", "prompt_tokens", "completion_tokens", "cost_nusd",
)
NEW = (
    "simulated_count", "cached_tokens", "cost_unknown_count", "measured_count",
    "measured_cost_nusd", "measured_baseline_nusd", "estimated_count", "estimated_cost_nusd",
    "estimated_baseline_nusd", "uncompared_count",
)


def number():
    return models.BigIntegerField(db_default=0, default=0)


def word():
    return models.CharField(db_default="", default="")


def new_sums():
    return [
        *((name, number()) for name in NEW),
        ("response_buckets", ArrayField(models.IntegerField(), db_default=[], default=list)),
        ("response_counts", ArrayField(models.BigIntegerField(), db_default=[], default=list)),
    ]


def sums(name, *key, **options):
    return migrations.CreateModel(
        name=name,
        fields=[
            (
                "id",
                models.BigAutoField(
                    auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                ),
            ),
            ("started_at", models.DateTimeField()),
            ("kind", models.CharField()),
            *((column, number()) for column in KNOWN),
            *new_sums(),
            *key,
        ],
        options={"ordering": ["started_at"], **options},
    )


def group():
    return [("tenant", word()), ("model_name", models.CharField()), ("task_type", word())]


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0001_initial")]

    operations = [
        sums("RequestDay", *group(), **dict.fromkeys(
            ("verbose_name", "verbose_name_plural"), "costs and savings")),
        sums("RequestHour", *group()),
        sums("RequestSpan", ("seconds", models.IntegerField())),
        migrations.CreateModel(
            name="RequestDelta",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("content", models.BinaryField()),
            ],
        ),
        migrations.AlterModelOptions(name="requestminute", options={"ordering": ["started_at"]}),
        migrations.RemoveConstraint(model_name="requestminute", name="telemetry_minute_key"),
        migrations.RenameField("requestminute", "minute", "started_at"),
        *(
            migrations.AddField("requestminute", name, field)
            for name, field in [*new_sums(), ("tenant", word()), ("task_type", word())]
        ),
        *(
            migrations.AddConstraint(
                model, models.UniqueConstraint(fields=KEY, name=f"telemetry_{unit}_key")
            )
            for model, unit in (
                ("requestminute", "minute"), ("requesthour", "hour"), ("requestday", "day"),
            )
        ),
        migrations.AddConstraint(
            "requestspan",
            models.UniqueConstraint(
                fields=["seconds", "started_at", "kind"], name="telemetry_span_key"
            ),
        ),
        migrations.RunSQL(
            [
                FILL.format(table="hour", unit="hour"),
                FILL.format(table="day", unit="day"),
                FILL_SPANS.format(seconds=60, unit="minute"),
                FILL_SPANS.format(seconds=3600, unit="hour"),
            ],
            migrations.RunSQL.noop,
        ),
        *(
            migrations.AddField("orchestratorrequest", name, field)
            for name, field in (
                ("tenant", word()),
                ("key", word()),
                ("tag", word()),
                ("cached_tokens", models.IntegerField(db_default=0, default=0)),
                ("charges", models.JSONField(db_default=[], default=list)),
                ("baseline_model", word()),
                ("baseline_nusd", number()),
                ("baseline_known", models.BooleanField(db_default=False, default=False)),
            )
        ),
        *(
            # On a partitioned table this makes the index in every partition, made or to come.
            migrations.AddIndex(
                "orchestratorrequest",
                models.Index(
                    fields=[column, "created_at"],
                    name=f"telemetry_request_{column}",
                    condition=~models.Q(**{column: ""}),
                ),
            )
            for column in ("tenant", "key")
        ),
        migrations.AddIndex(
            "orchestratorrequest",
            models.Index(
                fields=["created_at"],
                name="telemetry_request_failed",
                condition=models.Q(success=False),
            ),
        ),
    ]
