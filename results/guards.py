"""What a benchmark must not be silent about: each guard finds something, and it is refused, allowed or marked."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from configs.errors import UserError
from forgeries.duplicates import NEAR, near_duplicates
from forgeries.methods import same_method
from forgeries.perturbations import covers, expand
from forgeries.readers.cases import AUTHENTIC


@dataclass(frozen=True)
class Finding:
    """What a guard found of a detector, in one sentence. What is not `allowed` is refused."""

    guard: str
    detector: str
    what: str
    allowed: bool = False


@dataclass(frozen=True)
class Fingerprint:
    """A photograph as guards know it: what it is called, SHA-256 of its file, and perceptual hash, 0 without one."""

    label: str
    digest: str
    hash: int = 0


def trained_on(name: str, provenance: Mapping[str, Any], photos: Iterable[tuple[str, str]]) -> list[Finding]:
    """Test photographs (label, digest) that the detector `name` was trained or selected on: one finding for all.

    A detector that was trained on something, but does not say on which photographs, is marked.
    """
    known = {photo["digest"]: split for split, entries in provenance["photos"].items() for photo in entries}
    if not known and provenance["methods"] != []:
        return [Finding("trained-on", name, f"{name} does not say on which photographs it was trained: whether test "
                        "photographs are among them is not known", True)]
    found = [(label, known[digest]) for label, digest in photos if digest in known]
    return [Finding("trained-on", name, f"{found[0][0]}: a test photograph that is in the {found[0][1]} split of {name}"
                    f"{_more(found)}; give other test photographs")] if found else []


def unknown_origins(data: str) -> Finding:
    """A mark for a dataset `data` that does not tell which photographs its forgeries were made from."""
    return Finding("trained-on", "", f"{data}: origin of the pictures is not known: no manifest tells from which "
                   "photographs they were made; forgeries of training photographs are recognized by likeness alone",
                   True)


def near_duplicates_of(name: str, provenance: Mapping[str, Any], hashes: Mapping[str, int]) -> list[Finding]:
    """Test photographs, by label their perceptual hash, that look nearly the same as one that `name` was trained or
    selected on: one finding for all.

    A detector whose provenance has photographs without hashes is marked.
    """
    known = [(photo, split) for split, entries in provenance["photos"].items() for photo in entries]
    hashed = [(photo, split) for photo, split in known if "hash" in photo]
    labels = list(hashes)
    pairs = near_duplicates({"test": _array(hashes.values()),
                             "known": _array(int(photo["hash"], 16) for photo, _ in hashed)}, NEAR)
    found = {labels[pair.index]: hashed[pair.other_index] for pair in reversed(pairs)}
    findings = []
    if found:
        label = next(label for label in labels if label in found)
        photo, split = found[label]
        findings.append(Finding("near-duplicate", name, f"{label}: a test photograph that looks nearly the same as "
                                f"{photo['name']} of the {split} split of {name}{_more(found)}; give other test "
                                "photographs"))
    if len(hashed) < len(known):
        findings.append(Finding("near-duplicate", name, f"{name} names photographs without their perceptual hashes: "
                                "near duplicates of them were not looked for", True))
    return findings


def threshold_on_test(name: str, validation: Sequence[Fingerprint], test: Sequence[Fingerprint]) -> list[Finding]:
    """Photographs that the threshold of `name` was chosen on and that are tested on too, or nearly: one finding."""
    digests = {photo.digest for photo in validation}
    same = [photo.label for photo in test if photo.digest in digests]
    pairs = near_duplicates({"test": _array(photo.hash for photo in test),
                             "validation": _array(photo.hash for photo in validation)}, NEAR)
    found = list(dict.fromkeys([*same, *(test[pair.index].label for pair in pairs)]))
    return [Finding("threshold-on-test", name, f"{found[0]}: a test photograph that the threshold of {name} was chosen "
                    f"on{'' if same else ', or nearly the same'}{_more(found)}; give other validation photographs")] \
        if found else []


def seen_methods(name: str, provenance: Mapping[str, Any], methods: Iterable[str]) -> list[Finding]:
    """A mark for the tested methods that `name` was trained, or its architecture or epoch selected on, or for that it
    does not say."""
    tested = [method for method in methods if method != AUTHENTIC]
    return _seen("methods", name, methods_known(provenance), tested, same_method,
                 "trained" + " or its architecture selected" * bool(_selection(provenance).get("methods"))
                 + " or its epoch chosen" * bool(provenance.get("validation_methods")))


def methods_known(provenance: Mapping[str, Any]) -> list[str] | None:
    """Methods that a detector was trained, or its architecture or epoch selected on; None where it does not say on
    which it was trained."""
    start = _start(provenance)
    if provenance["methods"] is None or start["methods"] is None:
        return None
    return list(dict.fromkeys([*provenance["methods"], *(_selection(provenance).get("methods") or ()),
                               *provenance.get("validation_methods", ()), *start["methods"]]))


def perturbations_known(provenance: Mapping[str, Any]) -> list[str] | None:
    """Perturbations that a detector was trained on pictures after; None where it does not say.

    Of unforged pictures what happened to the photograph is all that happened.
    """
    own, start = provenance["perturbations"], _start(provenance)["perturbations"]
    forgeries = (provenance.get("config") or {}).get("forgeries") or {}
    before = forgeries.get("before", []) if forgeries.get("authentic") else []
    return None if own is None or start is None else list(dict.fromkeys([*own, *expand(before), *start]))


def photos_known(provenance: Mapping[str, Any]) -> bool:
    """Whether a detector tells all photographs that it was trained, or its architecture selected on."""
    told = bool(provenance["photos"]) or provenance["methods"] == []
    return told and _start(provenance)["photos"] and _selection(provenance).get("photos", True)


def unknown_selection(name: str, provenance: Mapping[str, Any]) -> list[Finding]:
    """Marks for an architecture that a search selected, or weights to start from that were trained, on methods or
    photographs that `name` does not tell."""
    selected, marks = _selection(provenance), []
    if selected and selected["methods"] is None:
        marks.append(Finding("seen-methods", name, f"the genotype of {name} does not say on which methods it was "
                             "selected: results are labelled by its training alone", True))
    if selected and not selected["photos"]:
        marks.append(Finding("trained-on", name, f"the genotype of {name} does not say on which photographs it was "
                             "selected: whether test photographs are among them is not known", True))
    if not _start(provenance)["photos"]:
        marks.append(Finding("trained-on", name, f"the weights that {name} was trained from do not say on which "
                             "photographs they were trained: whether test photographs are among them is not known",
                             True))
    return marks


def _selection(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    return provenance.get("selected_on") or {}


def _start(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the weights that a training started from had seen: nothing where there were none."""
    return provenance.get("start") or {"methods": [], "perturbations": [], "photos": True}


def unnamed_methods(titles: Iterable[str]) -> list[Finding]:
    """A mark for each set of forgeries, by title, of which nobody says what painted them."""
    return [Finding("seen-methods", "", f"{title}: the dataset does not name the method; results of trained detectors "
                    "are labelled unknown", True) for title in dict.fromkeys(titles)]


def seen_perturbations(name: str, provenance: Mapping[str, Any], perturbations: Iterable[str]) -> list[Finding]:
    """A mark for the tested perturbations, none aside, that training covered, or for that `name` does not say."""
    tested = [perturbation for perturbation in perturbations if perturbation != "none"]
    return _seen("perturbations", name, perturbations_known(provenance), tested, covers)


def apply(findings: Iterable[Finding], allow: Collection[str]) -> list[Finding]:
    """All findings as allowed, for the report.

    Raises:
        UserError: one that is not allowed is of a guard that `allow` does not name; the line tells the first.
    """
    found = list(findings)
    refused = [finding for finding in found if not finding.allowed and finding.guard not in allow]
    if refused:
        guards = ", ".join([*allow, *dict.fromkeys(finding.guard for finding in refused)])
        more = f" (and {len(refused) - 1} more such finding{'s' * (len(refused) > 2)})" * (len(refused) > 1)
        raise UserError(f"{refused[0].what}{more}, or set benchmark.allow=[{guards}], which the report will say")
    return [replace(finding, allowed=True) for finding in found]


def _seen(what: str, name: str, trained: Sequence[str] | None, tested: Sequence[str],
          includes: Callable[[str, str], bool], done: str = "trained") -> list[Finding]:
    if not tested:
        return []
    if trained is None:
        return [Finding(f"seen-{what}", name, f"{name} does not say which {what} it was trained on: its results are "
                        "labelled unknown", True)]
    seen = [one for one in tested if any(includes(entry, one) for entry in trained)]
    return [Finding(f"seen-{what}", name, f"{name} was {done} on {', '.join(seen)}: these results are labelled seen",
                    True)] if seen else []


def _array(hashes: Iterable[int]) -> np.ndarray:
    return np.fromiter(hashes, np.uint64)


def _more(found: Collection[Any]) -> str:
    return f", and {len(found) - 1} more" if len(found) > 1 else ""
