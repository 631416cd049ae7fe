"""Maps and their numbers, picture by picture, each kept as soon as it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from configs.engine import versions
from configs.progress import Progress
from configs.schema import RunConfig
from detectors.sources import MapSizeError
from forgeries.methods import same_method
from forgeries.perturbations import covers
from forgeries.readers import AUTHENTIC
from results.cases import CaseSet, TestCase, Unreadable, in_words, load_cases
from results.entries import Entry
from results.guards import methods_known, perturbations_known
from results.maps import MapCache, code_digest
from results.metrics import pool, rank
from results.metrics.variants import VARIANTS
from results.parts import Part, Writer, finished
from results.records import METRICS

WRONG_SIZE = "map size: "
"""Begins the error of a map of another size than its picture."""


@dataclass(frozen=True)
class Threshold:
    """What was chosen on validation photographs for pixels, also with few false alarms, and for pictures; NaN where it
    could not be."""

    pixel: float = float("nan")
    quiet: float = float("nan")
    image: float = float("nan")
    pictures: int = 0
    authentic: int = 0
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """All that the scoring of a picture needs besides the picture."""

    config: RunConfig
    parts: Path
    entries: Sequence[Entry]
    cache: MapCache | None
    rank: int
    world: int
    device: str
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)


def seen_label(name: str, trained_on: Sequence[str] | None, includes: Any) -> str:
    """"seen" or "unseen", by provenance; "unknown" where that does not tell."""
    if trained_on is None:
        return "unknown"
    return "seen" if any(includes(trained, name) for trained in trained_on) else "unseen"


def method_label(one: CaseSet, provenance: Mapping[str, Any]) -> str:
    """`seen_label` of the method that painted the cases, "" of unforged ones. A method that nobody names is unseen only
    by what was trained on nothing."""
    if one.method == AUTHENTIC:
        return ""
    known = methods_known(provenance)
    return seen_label(one.method, known if one.named or known == [] else None, same_method)


def place_of(bench: Bench, split: str, one: CaseSet, entry: Entry) -> Path:
    return bench.parts / split / one.perturbation / one.method / entry.label


def score_sets(bench: Bench, split: str, sets: "Mapping[CaseSet, Sequence[Entry]]", title: str) -> None:
    """Scores this process's share of the pictures that are not done yet."""
    todo = {}
    for one, entries in sets.items():
        shares = range(bench.rank, one.length, bench.world)
        todo[one] = {entry: sorted(set(shares) - finished(place_of(bench, split, one, entry))) for entry in entries}
    total = sum(len(range(bench.rank, one.length, bench.world)) * len(entries) for one, entries in sets.items())
    left = sum(len(indices) for entries in todo.values() for indices in entries.values())
    with Progress(title, total, total - left, unit="map") as progress:
        for one, pending in todo.items():
            indices = sorted(set().union(*pending.values()))
            if not indices:
                continue
            writers = {entry: Writer(place_of(bench, split, one, entry), bench.rank)
                       for entry, own in pending.items() if own}
            own = {entry: set(pending[entry]) for entry in writers}
            for index, case in zip(indices, load_cases(one.cases, indices, bench.config.forgeries.workers),
                                   strict=True):
                for entry, writer in writers.items():
                    if index in own[entry]:
                        writer.add(_part(bench, entry, one, index, case))
                        progress.update(method=one.method)
            for writer in writers.values():
                writer.close()


def _part(bench: Bench, entry: Entry, one: CaseSet, index: int, case: TestCase | Unreadable) -> Part:
    trained_on = entry.source.provenance
    row = {"detector": entry.name, "seed": entry.seed, "method": one.method, "kind": one.kind,
           "seen": method_label(one, trained_on),
           "perturbation": one.perturbation,
           "perturbation_seen": seen_label(one.perturbation, perturbations_known(trained_on), covers),
           "image": case.name, "source": case.source}
    if isinstance(case, Unreadable):
        return Part(index, {**row, "error": case.what}, None)
    row |= {"digest": case.digest, "mask_kind": case.mask_kind, "mask_fraction": as_field(float(case.mask.mean())),
            "pixels": str(case.mask.size)}
    try:
        probability = find_map(bench, entry, one, case)
    except Exception as error:
        # Whatever a network or a user's function raises, for this picture alone.
        size = WRONG_SIZE if isinstance(error, MapSizeError) else ""
        return Part(index, {**row, "error": size + in_words(error)}, None)
    ranked = rank(probability, case.mask)
    numbers = ranked.numbers(bench.thresholds.get(entry.label, Threshold()).pixel)
    row |= {key: as_field(numbers[key]) for key in (*METRICS, "best_threshold")}
    row["score"] = as_field(pool(probability, bench.config.benchmark.pooling))
    published = {name: VARIANTS[name].score(probability, case.mask) for name in bench.config.benchmark.variants}
    return Part(index, row, ranked.histogram(), published)


def find_map(bench: Bench, entry: Entry, one: CaseSet, case: TestCase) -> np.ndarray:
    """The map float32 H×W of a case, from the cache where it is there; what the detector raises."""
    # Maps that were computed elsewhere are of one perturbation, too.
    place = one.method if one.perturbation == "none" else f"{one.perturbation}/{one.method}"

    def predict() -> np.ndarray:
        return entry.source.predict(case.image, place, case.name)

    if bench.cache is None or entry.source.digest is None:
        return predict()
    network = " ".join((entry.source.digest, bench.device, code_digest(), *versions().values()))
    return bench.cache.find(network, case.image, predict)


def as_field(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.9g}"
