"""Ranges of configuration entries as people write them: `key=low..high`, `key=log:low..high`, `key=choice:a,b`."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from configs.errors import UserError

TUNABLE = ("retrain.", "forgeries.", "precision")
FIXED = ("retrain.detectors", "retrain.genotype", "retrain.validation")
"""Beginnings of what is no hyper-parameter of one training, or changes what trainings are compared by."""

FORMS = "must be LOW..HIGH, log:LOW..HIGH or choice:A,B"


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, both included; integers where both are written as such; with `log`, uniform in the
    logarithm."""

    low: float
    high: float
    log: bool = False

    @property
    def integers(self) -> bool:
        """Whether only integers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def probes(self) -> tuple[str, ...]:
        """Values that an entry must take if it takes all: both ends, and a fraction where fractions may be drawn."""
        within = () if self.integers else (self.low + (self.high - self.low) / math.e,)
        return tuple(map(repr, (self.low, self.high, *within)))

    def __str__(self) -> str:
        return f"{'log:' * self.log}{self.low!r}..{self.high!r}"


@dataclass(frozen=True)
class Choice:
    """One of several values, each as the text that the user wrote, which is YAML."""

    options: tuple[str, ...]

    def probes(self) -> tuple[str, ...]:
        """All options."""
        return self.options

    def __str__(self) -> str:
        return f"choice:{','.join(self.options)}"


Ranges = dict[str, Span | Choice]


def split_ranges(words: Iterable[str]) -> tuple[Ranges, tuple[str, ...]]:
    """The ranges among `section.key=value` words, by key, and the words that are plain overrides.

    Raises:
        UserError: a malformed range, a key that has two, or one that is no hyper-parameter of a training.
    """
    ranges: Ranges = {}
    plain = []
    for word in words:
        key, _, text = word.partition("=")
        if (found := parse_range(key, text)) is None:
            plain.append(word)
            continue
        if key in ranges:
            raise UserError(f"{key}: has two ranges; leave one")
        if not key.startswith(TUNABLE) or key.startswith(FIXED):
            raise UserError(f"{key}: cannot be tuned; what can are entries of retrain and forgeries, and precision, "
                            f"without {', '.join(FIXED)}*, by which trainings are compared")
        ranges[key] = found
    return ranges, tuple(plain)


def parse_range(key: str, text: str) -> Span | Choice | None:
    """What `text` draws from; None where it is a plain value.

    Raises:
        UserError: it begins like a range and is none, or nothing can be drawn from it.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "choice":
        options = tuple(_split(rest))
        if len(options) < 2 or "" in options or len(set(options)) < len(options):
            raise UserError(f"{key}={text}: must be choice:A,B with two or more different values")
        return Choice(options)
    log = bool(colon) and kind == "log"
    low, dots, high = (rest if log else text).partition("..")
    try:
        span = Span(_number(low), _number(high), log)
    except ValueError:
        if log:
            raise UserError(f"{key}={text}: {FORMS}, LOW and HIGH numbers") from None
        return None
    if not (dots and span.low < span.high):
        raise UserError(f"{key}={text}: {FORMS}, LOW less than HIGH")
    if log and span.low <= 0:
        raise UserError(f"{key}={text}: LOW must be positive, for its logarithm")
    return span


def _number(text: str) -> float:
    """An int where it is written as one.

    Raises:
        ValueError: no finite number.
    """
    value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
