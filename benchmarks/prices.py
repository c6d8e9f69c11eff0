"""What the models of the replayed questions cost, in US dollars per million tokens, in and out.

Vendors' list prices of late 2024, when the answers were recorded. Open models have none: theirs is
what hosted services then took for a model of that size. The pair is at the prices of the paper it
comes from. `--prices FILE` puts others in their place.
"""

import csv
from decimal import Decimal, InvalidOperation
from pathlib import Path

from benchmarks.questions import STRONG, WEAK, BadData

Price = tuple[Decimal, Decimal]
COLUMNS = ("model", "input_usd_per_million", "output_usd_per_million")

PAIR: dict[str, tuple[str, str]] = {STRONG: ("24.7", "24.7"), WEAK: ("0.24", "0.24")}
LIST: dict[str, tuple[str, str]] = {
    "gpt-3.5-turbo-0125": ("0.50", "1.50"),
    "gpt-4o-mini-2024-07-18": ("0.15", "0.60"),
    "gpt-4o-2024-08-06": ("2.50", "10.00"),
    "claude-3-haiku-20240307": ("0.25", "1.25"),
    "claude-3-5-haiku-20241022": ("0.80", "4.00"),
    "claude-3-5-sonnet-20241022": ("3.00", "15.00"),
    "gemini-1.5-flash": ("0.075", "0.30"),
    "gemini-1.5-flash-002": ("0.075", "0.30"),
    "gemini-1.5-pro": ("1.25", "5.00"),
    "gemini-1.5-pro-002": ("1.25", "5.00"),
    # Open models, by size.
    "Phi-3-mini-4k-instruct": ("0.10", "0.10"),
    "Mistral-7B-Instruct-v0.2": ("0.20", "0.20"),
    "Meta-Llama-3-8B-Instruct": ("0.20", "0.20"),
    "Meta-Llama-3.1-8B-Instruct": ("0.20", "0.20"),
    "Meta-Llama-3_1-8B-Instruct": ("0.20", "0.20"),
    "Mixtral-8x7B-Instruct-v0.1": ("0.60", "0.60"),
    "Meta-Llama-3-70B-Instruct": ("0.90", "0.90"),
    "Meta-Llama-3.1-70B-Instruct": ("0.90", "0.90"),
    "Meta-Llama-3_1-70B-Instruct": ("0.90", "0.90"),
    "Qwen1.5-72B-Chat": ("0.90", "0.90"),
}


def prices_of(models: tuple[str, ...], others: dict[str, Price]) -> dict[str, Price]:
    """Return each model's price; raises BadData for one without: unknown is never free."""
    known = LIST if set(models) != set(PAIR) else PAIR
    listed = {name: (Decimal(a), Decimal(b)) for name, (a, b) in known.items()} | others
    unknown = [model for model in models if model not in listed]
    if unknown:
        raise BadData(f"No price is known for {', '.join(unknown)}; give them with --prices FILE.")
    return {model: listed[model] for model in models}


def read_prices(path: Path | None) -> dict[str, Price]:
    """Return the prices of a CSV file with the columns of COLUMNS; raises BadData."""
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {row[COLUMNS[0]]: (_usd(row[COLUMNS[1]]), _usd(row[COLUMNS[2]])) for row in rows}
    except (OSError, UnicodeDecodeError, KeyError, InvalidOperation, ValueError, TypeError) as exc:
        wanted = ",".join(COLUMNS)
        raise BadData(f"{path}: {exc}; it needs the columns {wanted}.") from exc


def _usd(text: str) -> Decimal:
    price = Decimal(text)
    if not price.is_finite() or price < 0:
        raise ValueError(f"{text!r} is no price")
    return price
