"""What happened: requests, what each model did in sum, and samples of this host.

Rows are written by the conductor, with SQL of its own; Django reads them.
"""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models


class ModelMetric(models.Model):
    """What one model did since its first request.

    Counts the requests it answered, or failed as the last one tried; a request that failed over
    counts for the model that answered, and in `failed_attempts` of those that did not.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model_name = models.CharField(unique=True)
    request_count = models.BigIntegerField(default=0, db_default=0)
    success_count = models.BigIntegerField(default=0, db_default=0)
    error_count = models.BigIntegerField(default=0, db_default=0)
    avg_response_time_ms = models.FloatField(default=0.0, db_default=0.0)
    # Requests in flight on average over the last ten seconds, in all workers.
    current_load = models.FloatField(default=0.0, db_default=0.0)
    # What the endpoints that have it loaded say they use for it; 0 where none does.
    memory_usage_mb = models.FloatField(default=0.0, db_default=0.0)
    last_used = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    # What the mean is made of, so that it stays exact.
    response_time_total_ms = models.BigIntegerField(default=0, db_default=0)
    failed_attempts = models.BigIntegerField(default=0, db_default=0)
    prompt_tokens = models.BigIntegerField(default=0, db_default=0)
    completion_tokens = models.BigIntegerField(default=0, db_default=0)
    cost_nusd = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        ordering = ["model_name"]

    def __str__(self) -> str:
        return self.model_name


class OrchestratorRequest(models.Model):
    """One finished request; the columns are those of `telemetry.record.RequestRecord`.

    The table is partitioned by the day of `created_at`; in the database the primary key is
    (id, created_at), because a partitioned table's key has to hold what it is partitioned by.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request_id = models.CharField()
    kind = models.CharField()
    task_type = models.CharField()
    priority = models.CharField()
    # No constraint: a record must never be refused for what is not yet known of its model.
    selected_model = models.ForeignKey(
        ModelMetric,
        to_field="model_name",
        db_column="selected_model",
        db_constraint=False,
        db_index=False,
        on_delete=models.DO_NOTHING,
        related_name="requests",
    )
    endpoint = models.CharField()
    chosen_model = models.CharField()
    fallback_used = models.BooleanField()
    degraded = models.BooleanField()
    reason = models.TextField()
    success = models.BooleanField()
    status = models.IntegerField()
    error_type = models.CharField()
    error_message = models.TextField(null=True)  # noqa: DJ001 - the contract says `string?`
    response_time_ms = models.IntegerField()
    selection_time_us = models.IntegerField()
    first_token_ms = models.IntegerField()
    prompt_tokens = models.IntegerField()
    completion_tokens = models.IntegerField()
    usage_estimated = models.BooleanField()
    cost_estimate = models.FloatField()  # dollars, for readers; sums are made of cost_nusd
    cost_nusd = models.BigIntegerField()
    cost_known = models.BooleanField()
    cost_limit_nusd = models.BigIntegerField()
    estimated_cost_nusd = models.BigIntegerField()
    resource_pressure = models.FloatField()
    stream = models.BooleanField()
    simulated = models.BooleanField()
    worker = models.CharField()
    attempts = models.JSONField()
    created_at = models.DateTimeField()
    tenant = models.CharField(default="", db_default="")
    key = models.CharField(default="", db_default="")
    tag = models.CharField(default="", db_default="")
    cached_tokens = models.IntegerField(default=0, db_default=0)
    charges = models.JSONField(default=list, db_default=[])
    # What the baseline model would have cost for the same tokens; 0 unless it is known.
    baseline_model = models.CharField(default="", db_default="")
    baseline_nusd = models.BigIntegerField(default=0, db_default=0)
    baseline_known = models.BooleanField(default=False, db_default=False)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["created_at"], name="telemetry_request_created"),
            models.Index(fields=["request_id"], name="telemetry_request_request"),
            # Partial: without keys they cost nothing.
            models.Index(
                fields=["tenant", "created_at"],
                name="telemetry_request_tenant",
                condition=~models.Q(tenant=""),
            ),
            models.Index(
                fields=["key", "created_at"],
                name="telemetry_request_key",
                condition=~models.Q(key=""),
            ),
            # Failures are few, and looked for.
            models.Index(
                fields=["created_at"],
                name="telemetry_request_failed",
                condition=models.Q(success=False),
            ),
        ]

    def __str__(self) -> str:
        return self.request_id


class RequestSums(models.Model):
    """Requests in sum, of the span of time that begins at `started_at`.

    Charts and reports read sums, never the requests themselves. The histogram holds how many
    response times fell into which bucket (telemetry.histogram), so that percentiles of any span
    and any group come from merged counts. Costs are compared with the baseline's only where both
    are known; what the upstream counted is told apart from what we estimated.
    """

    started_at = models.DateTimeField()
    kind = models.CharField()
    request_count = models.BigIntegerField(default=0, db_default=0)
    success_count = models.BigIntegerField(default=0, db_default=0)
    fallback_count = models.BigIntegerField(default=0, db_default=0)
    simulated_count = models.BigIntegerField(default=0, db_default=0)
    response_time_total_ms = models.BigIntegerField(default=0, db_default=0)
    response_time_max_ms = models.BigIntegerField(default=0, db_default=0)
    prompt_tokens = models.BigIntegerField(default=0, db_default=0)
    cached_tokens = models.BigIntegerField(default=0, db_default=0)
    completion_tokens = models.BigIntegerField(default=0, db_default=0)
    cost_nusd = models.BigIntegerField(default=0, db_default=0)
    cost_unknown_count = models.BigIntegerField(default=0, db_default=0)
    measured_count = models.BigIntegerField(default=0, db_default=0)
    measured_cost_nusd = models.BigIntegerField(default=0, db_default=0)
    measured_baseline_nusd = models.BigIntegerField(default=0, db_default=0)
    estimated_count = models.BigIntegerField(default=0, db_default=0)
    estimated_cost_nusd = models.BigIntegerField(default=0, db_default=0)
    estimated_baseline_nusd = models.BigIntegerField(default=0, db_default=0)
    uncompared_count = models.BigIntegerField(default=0, db_default=0)
    # Parallel: the buckets that were met, ascending, and how often.
    response_buckets = ArrayField(models.IntegerField(), default=list, db_default=[])
    response_counts = ArrayField(models.BigIntegerField(), default=list, db_default=[])

    class Meta:
        abstract = True


class GroupSums(RequestSums):
    """Sums for each tenant, model, task type and kind."""

    tenant = models.CharField(default="", db_default="")
    model_name = models.CharField()
    task_type = models.CharField(default="", db_default="")

    class Meta:
        abstract = True
        ordering = ["started_at"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} {self.model_name} {self.kind}"


GROUP_KEY = ["started_at", "tenant", "model_name", "task_type", "kind"]


class RequestMinute(GroupSums):
    """One minute of one tenant, model, task type and kind."""

    class Meta(GroupSums.Meta):
        constraints = [models.UniqueConstraint(fields=GROUP_KEY, name="telemetry_minute_key")]


class RequestHour(GroupSums):
    """One hour of one tenant, model, task type and kind."""

    class Meta(GroupSums.Meta):
        constraints = [models.UniqueConstraint(fields=GROUP_KEY, name="telemetry_hour_key")]


class RequestDay(GroupSums):
    """One day (UTC) of one tenant, model, task type and kind: what long reports read."""

    class Meta(GroupSums.Meta):
        verbose_name = verbose_name_plural = "costs and savings"  # as the admin shows them
        constraints = [models.UniqueConstraint(fields=GROUP_KEY, name="telemetry_day_key")]


class RequestSpan(RequestSums):
    """A minute or an hour of everybody's requests: what charts read.

    `kind` is `select`, or `call` for all others.
    """

    seconds = models.IntegerField()  # 60 or 3600

    class Meta:
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["seconds", "started_at", "kind"], name="telemetry_span_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} {self.seconds} s {self.kind}"


class RequestDelta(models.Model):
    """What one batch of records adds up to, until the leader folds it in: see telemetry.sums."""

    content = models.BinaryField()

    def __str__(self) -> str:
        return f"batch {self.pk}"


class SystemResource(models.Model):
    """Memory and CPU of this host at one moment, sampled by the conductor."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    memory_available_gb = models.FloatField()
    memory_free_gb = models.FloatField()
    memory_total_gb = models.FloatField()
    cpu_usage_percent = models.FloatField()
    swap_used_percent = models.FloatField()
    recorded_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-recorded_at"]

    def __str__(self) -> str:
        return f"{self.recorded_at:%Y-%m-%d %H:%M:%S}"
