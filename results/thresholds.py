"""Thresholds of detectors, chosen on forgeries of validation photographs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from configs.schema import RunConfig
from forgeries.methods import canonical, family, list_methods, method_names
from forgeries.perturbations import expand
from forgeries.photos import Photo
from forgeries.readers import AUTHENTIC
from results.cases import AuthenticCases, CaseSet, ForgedCases
from results.entries import Entry
from results.guards import Finding
from results.metrics import best_threshold, image_threshold, quiet_threshold
from results.parts import read_parts
from results.scoring import Bench, Threshold, place_of

THRESHOLDS = "threshold"
"""Random stream of the pictures that thresholds are chosen on."""

FALSE_ALARM = 0.02
"""Mean share of the area of authentic pictures that a quiet threshold may flag."""


def validation_sets(config: RunConfig, entries: Sequence[Entry], photos: Sequence[Photo]) \
        -> "dict[CaseSet, Sequence[Entry]]":
    """Cases that thresholds are chosen on, with the detectors for which they are.

    For each detector as many forgeries as `benchmark.validation`, in equal parts by the methods that it was trained
    on, as far as they can be had here, else by `forgeries.methods`; and as many unforged pictures. No method that
    a detector is known to be trained without has a say in it; of untrained ones, those of `forgeries.methods` have.
    """
    settings, perturbation = config.benchmark, expand(config.benchmark.perturbations)[0]
    own = [entry for entry in entries if entry.source.kind != "maps"]
    sets: dict[tuple[str, str, int], list[Entry]] = {}
    for entry in own:
        methods = validation_methods(config, entry.source.provenance)
        for name, spec in methods.items():
            sets.setdefault((name, spec, -(-settings.validation // len(methods))), []).append(entry)
    found: dict[CaseSet, Sequence[Entry]] = {
        CaseSet(perturbation, f"{name}-{count}", family(spec),
                ForgedCases(config, photos, THRESHOLDS, spec, perturbation, count), count): chosen
        for (name, spec, count), chosen in sets.items()}
    if own:
        cases = AuthenticCases(config, photos, THRESHOLDS, perturbation, settings.validation)
        found[CaseSet(perturbation, AUTHENTIC, AUTHENTIC, cases, settings.validation)] = own
    return found


def validation_methods(config: RunConfig, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Specs by name of the methods that a detector's thresholds are chosen on."""
    configured = dict(zip(method_names(config.forgeries.methods), config.forgeries.methods, strict=True))
    known = {canonical(name): (name, spec) for name, spec in (dict.fromkeys(list_methods(), "") | configured).items()}
    own = dict(known[key] for key in map(canonical, provenance.get("methods") or ()) if key in known)
    return {name: spec or name for name, spec in own.items()} or configured


def choose_threshold(bench: Bench, entry: Entry, sets: "Mapping[CaseSet, Sequence[Entry]]") -> Threshold:
    """For pixels, the threshold of the largest mean F1 over validation forgeries, also among those alone that flag at
    most `FALSE_ALARM` of the unforged ones; for pictures, that of the largest balanced accuracy of the pooled scores
    against the unforged ones."""
    histograms: dict[bool, list[np.ndarray]] = {True: [], False: []}
    scores, labels, methods = [], [], []
    for one, chosen in sets.items():
        if entry not in chosen:
            continue
        forged = one.method != AUTHENTIC
        if forged:
            methods.append(one.method.rpartition("-")[0])
        for part in read_parts(place_of(bench, THRESHOLDS, one, entry)):
            if part.histogram is not None:
                scores.append(float(part.row["score"]))
                labels.append(forged)
                histograms[forged].append(part.histogram)
    count = sum(labels)
    return Threshold(best_threshold(histograms[True]),
                     quiet_threshold(histograms[True], histograms[False], FALSE_ALARM),
                     image_threshold(np.array(scores), np.array(labels)) if 0 < count < len(labels) else float("nan"),
                     count, len(labels) - count, tuple(methods))


def validation_failures(bench: Bench, sets: "Mapping[CaseSet, Sequence[Entry]]") -> list[Finding]:
    """Detectors that failed on pictures of their validation."""
    found = []
    for entry in bench.entries:
        chosen = bench.thresholds[entry.label]
        asked = sum(one.length for one, entries in sets.items() if entry in entries)
        if missing := asked - chosen.pictures - chosen.authentic:
            found.append(Finding("validation-failures", entry.label, f"has no map of {missing} of {asked} validation "
                                 "pictures; its thresholds are of the others", True))
    return found
