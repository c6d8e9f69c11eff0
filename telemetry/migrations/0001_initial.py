"""The tables of what happened; requests lie in one partition a day."""

import uuid

import django.db.models.deletion
from django.db import migrations, models

CREATE_REQUESTS = """
CREATE TABLE telemetry_orchestratorrequest (
    id uuid NOT NULL,
    request_id varchar NOT NULL,
    kind varchar NOT NULL,
    task_type varchar NOT NULL,
    priority varchar NOT NULL,
    selected_model varchar NOT NULL,
    endpoint varchar NOT NULL,
    chosen_model varchar NOT NULL,
    fallback_used boolean NOT NULL,
    degraded boolean NOT NULL,
    reason text NOT NULL,
    success boolean NOT NULL,
    status integer NOT NULL,
    error_type varchar NOT NULL,
    error_message text NULL,
    response_time_ms integer NOT NULL,
    selection_time_us integer NOT NULL,
    first_token_ms integer NOT NULL,
    prompt_tokens integer NOT NULL,
    completion_tokens integer NOT NULL,
    usage_estimated boolean NOT NULL,
    cost_estimate double precision NOT NULL,
    cost_nusd bigint NOT NULL,
    cost_known boolean NOT NULL,
    cost_limit_nusd bigint NOT NULL,
    estimated_cost_nusd bigint NOT NULL,
    resource_pressure double precision NOT NULL,
    stream boolean NOT NULL,
    simulated boolean NOT NULL,
    worker varchar NOT NULL,
    attempts jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX telemetry_request_created ON telemetry_orchestratorrequest (created_at);
CREATE INDEX telemetry_request_request ON telemetry_orchestratorrequest (request_id);
-- Takes what no day's partition does, so that nothing is ever refused.
CREATE TABLE telemetry_orchestratorrequest_default
    PARTITION OF telemetry_orchestratorrequest DEFAULT;
"""
DROP_REQUESTS = "DROP TABLE telemetry_orchestratorrequest"


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ModelMetric",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("model_name", models.CharField(unique=True)),
                ("request_count", models.BigIntegerField(db_default=0, default=0)),
                ("success_count", models.BigIntegerField(db_default=0, default=0)),
                ("error_count", models.BigIntegerField(db_default=0, default=0)),
                ("avg_response_time_ms", models.FloatField(db_default=0.0, default=0.0)),
                ("current_load", models.FloatField(db_default=0.0, default=0.0)),
                ("memory_usage_mb", models.FloatField(db_default=0.0, default=0.0)),
                ("last_used", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                ("response_time_total_ms", models.BigIntegerField(db_default=0, default=0)),
                ("failed_attempts", models.BigIntegerField(db_default=0, default=0)),
                ("prompt_tokens", models.BigIntegerField(db_default=0, default=0)),
                ("completion_tokens", models.BigIntegerField(db_default=0, default=0)),
                ("cost_nusd", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "ordering": ["model_name"],
            },
        ),
        migrations.CreateModel(
            name="SystemResource",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("memory_available_gb", models.FloatField()),
                ("memory_free_gb", models.FloatField()),
                ("memory_total_gb", models.FloatField()),
                ("cpu_usage_percent", models.FloatField()),
                ("swap_used_percent", models.FloatField()),
                ("recorded_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "ordering": ["-recorded_at"],
            },
        ),
        migrations.CreateModel(
            name="RequestMinute",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("minute", models.DateTimeField()),
                ("model_name", models.CharField()),
                ("kind", models.CharField()),
                ("request_count", models.BigIntegerField(db_default=0, default=0)),
                ("success_count", models.BigIntegerField(db_default=0, default=0)),
                ("fallback_count", models.BigIntegerField(db_default=0, default=0)),
                ("response_time_total_ms", models.BigIntegerField(db_default=0, default=0)),
                ("response_time_max_ms", models.BigIntegerField(db_default=0, default=0)),
                ("prompt_tokens", models.BigIntegerField(db_default=0, default=0)),
                ("completion_tokens", models.BigIntegerField(db_default=0, default=0)),
                ("cost_nusd", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "ordering": ["minute"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("minute", "model_name", "kind"), name="telemetry_minute_key"
                    )
                ],
            },
        ),
        # The state is what Django reads; the table itself is partitioned, which it cannot declare.
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE_REQUESTS, DROP_REQUESTS)],
            state_operations=[
                migrations.CreateModel(
                    name="OrchestratorRequest",
                    fields=[
                        (
                            "id",
                            models.UUIDField(
                                default=uuid.uuid4,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("request_id", models.CharField()),
                        ("kind", models.CharField()),
                        ("task_type", models.CharField()),
                        ("priority", models.CharField()),
                        ("endpoint", models.CharField()),
                        ("chosen_model", models.CharField()),
                        ("fallback_used", models.BooleanField()),
                        ("degraded", models.BooleanField()),
                        ("reason", models.TextField()),
                        ("success", models.BooleanField()),
                        ("status", models.IntegerField()),
                        ("error_type", models.CharField()),
                        ("error_message", models.TextField(null=True)),
                        ("response_time_ms", models.IntegerField()),
                        ("selection_time_us", models.IntegerField()),
                        ("first_token_ms", models.IntegerField()),
                        ("prompt_tokens", models.IntegerField()),
                        ("completion_tokens", models.IntegerField()),
                        ("usage_estimated", models.BooleanField()),
                        ("cost_estimate", models.FloatField()),
                        ("cost_nusd", models.BigIntegerField()),
                        ("cost_known", models.BooleanField()),
                        ("cost_limit_nusd", models.BigIntegerField()),
                        ("estimated_cost_nusd", models.BigIntegerField()),
                        ("resource_pressure", models.FloatField()),
                        ("stream", models.BooleanField()),
                        ("simulated", models.BooleanField()),
                        ("worker", models.CharField()),
                        ("attempts", models.JSONField()),
                        ("created_at", models.DateTimeField()),
                        (
                            "selected_model",
                            models.ForeignKey(
                                db_column="selected_model",
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                related_name="requests",
                                to="telemetry.modelmetric",
                                to_field="model_name",
                            ),
                        ),
                    ],
                    options={
                        "ordering": ["-created_at"],
                        "indexes": [
                            models.Index(fields=["created_at"], name="telemetry_request_created"),
                            models.Index(fields=["request_id"], name="telemetry_request_request"),
                        ],
                    },
                ),
            ],
        ),
    ]
