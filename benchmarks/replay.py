"""Replays questions under routing policies: what each costs, and how often it is right.

Half of the questions, by their ids, make the capability records; the other half is replayed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from benchmarks.prices import Price
from benchmarks.questions import Question, Questions
from routing.engine.catalog import (
    DEFAULT_PROFILES,
    PRIORITIES,
    QUALITY_TIERS,
    TASK_TYPES,
    EndpointSpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
    Priority,
    QualityTier,
    TaskType,
)
from routing.engine.decide import decide
from routing.engine.need import Need
from routing.engine.policy import Policy
from routing.engine.state import FleetState

# The rule that makes capability records, as an admin would from a trial: a model's tier is the
# first whose share of the best model's accuracy it reaches, over all its calibration questions.
TIER_SHARE: tuple[tuple[QualityTier, float], ...] = (
    ("exceptional", 0.97),
    ("high", 0.90),
    ("good", 0.75),
    ("basic", 0.0),
)
# It is said to be able to do a task at which it reaches this share of the best one's accuracy.
ABLE_SHARE = 0.75
# Questions longer than this share of the calibration questions are taken for moderate, complex.
MODERATE_ABOVE, COMPLEX_ABOVE = 0.50, 0.80
PLACE = EndpointSpec(name="replay", provider="openai", base_url="http://127.0.0.1:9")


@dataclass(frozen=True, slots=True)
class Result:
    """One policy over the replayed questions."""

    policy: str
    accuracy: float
    usd_per_1k: float  # dollars for a thousand questions
    shares: dict[str, float]  # which models answered how large a part of them


# Whom a policy asks, and in which proportions: (model, share), adding up to 1.
Choice = Callable[[Question], Sequence[tuple[str, float]]]


class Replay:
    """The questions of one file and what the engine is told of its models."""

    def __init__(self, questions: Questions, prices: dict[str, Price]) -> None:
        self.prices = prices
        self.calibration = [q for q in questions.questions if q.is_for_calibration]
        self.replayed = [q for q in questions.questions if not q.is_for_calibration]
        self.records = _records(questions.models, self.calibration, prices)
        self.policy = Policy(
            PolicyDocument(
                models=self.records,
                endpoints=(PLACE,),
                offerings=tuple(
                    OfferingSpec(model=m.name, endpoint=PLACE.name) for m in self.records
                ),
                profiles=DEFAULT_PROFILES,
            )
        )
        self.state = FleetState()
        self.state.bind(self.policy)
        lengths = sorted(q.prompt_tokens for q in self.calibration)
        self._moderate = lengths[int(len(lengths) * MODERATE_ABOVE)]
        self._complex = lengths[int(len(lengths) * COMPLEX_ABOVE)]

    def results(self) -> list[Result]:
        """Return every policy's result, the strongest model's first."""
        models = [model.name for model in self.records]
        return [
            self.measure("always strongest", _always(self.strongest)),
            self.measure("first available", self._first_available),
            self.measure("random", lambda _: [(model, 1 / len(models)) for model in models]),
            *(
                self.measure(f"ours, floor {tier}", partial(self._ours, priority="low", floor=rank))
                for rank, tier in reversed(list(enumerate(QUALITY_TIERS)))
            ),
            *(
                self.measure(f"ours, complexity by length, {p}", partial(self._by_length, p))
                for p in PRIORITIES
            ),
        ]

    @property
    def strongest(self) -> str:
        """Return the model that was right most often in the calibration half."""
        right = {m.name: accuracy(self.calibration, m.name) for m in self.records}
        return min(right, key=lambda name: (-right[name], name))

    def single(self, model: str) -> Result:
        """Return what asking one model always gives."""
        return self.measure(model, _always(model))

    def measure(self, name: str, choose: Choice) -> Result:
        """Return the expected accuracy and cost of a policy, exactly: no dice are thrown."""
        right, nusd, asked = 0.0, 0.0, dict.fromkeys((m.name for m in self.records), 0.0)
        for question in self.replayed:
            for model, share in choose(question):
                outcome = question.outcomes[model]
                right += share * outcome.correct
                nusd += share * self._cost_nusd(model, question)
                asked[model] += share
        count = len(self.replayed)
        shares = {model: part / count for model, part in asked.items() if part}
        return Result(name, right / count, nusd / count * 1000 / 1e9, shares)

    def _cost_nusd(self, model: str, question: Question) -> int:
        (candidate,) = self.policy.by_model[model]
        assert candidate.price is not None, "every model here has a price"
        return candidate.price.cost_nusd(question.prompt_tokens, question.outcomes[model].tokens)

    def _first_available(self, question: Question) -> list[tuple[str, float]]:
        # As the baseline does: whoever is there and says it can, by name.
        return [(self.policy.by_name(question.task)[0].model_name, 1.0)]

    def _ours(
        self, question: Question, *, priority: Priority, floor: int
    ) -> list[tuple[str, float]]:
        need = Need(
            task=question.task, priority=priority, floor=floor, prompt_tokens=question.prompt_tokens
        )
        return [(decide(self.policy, self.state, need, 0.0).chosen.model_name, 1.0)]

    def _by_length(self, priority: Priority, question: Question) -> list[tuple[str, float]]:
        """Route as a caller who knows nothing of a question but how long it is."""
        length = question.prompt_tokens
        complexity = (
            "complex" if length > self._complex
            else "moderate" if length > self._moderate
            else "simple"
        )  # fmt: skip
        floor = self.policy.floor(priority, complexity, None)
        return self._ours(question, priority=priority, floor=floor)


def _always(model: str) -> Choice:
    return lambda _: [(model, 1.0)]


def accuracy(questions: Sequence[Question], model: str, task: TaskType | None = None) -> float:
    """Return how often a model was right, 0..1; 0 without such a question."""
    asked = [q for q in questions if task in (None, q.task)]
    return sum(q.outcomes[model].correct for q in asked) / len(asked) if asked else 0.0


def _records(
    models: tuple[str, ...], questions: Sequence[Question], prices: dict[str, Price]
) -> tuple[ModelSpec, ...]:
    """Return the capability records that the rule makes of the calibration questions."""
    best = max(accuracy(questions, model) for model in models)
    tasks = [task for task in TASK_TYPES if any(q.task == task for q in questions)]
    best_at = {task: max(accuracy(questions, m, task) for m in models) for task in tasks}
    return tuple(
        ModelSpec(
            name=model,
            quality_tier=_tier(accuracy(questions, model) / best if best else 1.0),
            capabilities=tuple(
                task
                for task in tasks
                if accuracy(questions, model, task) >= ABLE_SHARE * best_at[task]
            ),
            context_length=100_000,
            cost_per_1k_input_usd=prices[model][0] / Decimal(1000),
            cost_per_1k_output_usd=prices[model][1] / Decimal(1000),
        )
        for model in sorted(models)
    )


def _tier(share: float) -> QualityTier:
    return next(tier for tier, least in TIER_SHARE if share >= least)


def mixed_accuracy(singles: Sequence[Result], usd_per_1k: float) -> float:
    """Return the accuracy that mixing single models at random gives for as much money.

    The hull of the single models: what routing has to beat to have learnt anything about questions.
    Below the cheapest model's cost there is nothing to compare with, and its accuracy is returned.
    """
    best = 0.0
    for a in singles:
        if a.usd_per_1k <= usd_per_1k:
            best = max(best, a.accuracy)
        for b in singles:
            if a.usd_per_1k < usd_per_1k < b.usd_per_1k:
                part = (usd_per_1k - a.usd_per_1k) / (b.usd_per_1k - a.usd_per_1k)
                best = max(best, a.accuracy + part * (b.accuracy - a.accuracy))
    return best or min(singles, key=lambda one: one.usd_per_1k).accuracy
