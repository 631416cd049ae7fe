"""The benchmark: each detector × perturbation × method, on photographs that no detector was trained on.

Thresholds are chosen first, on forgeries of validation photographs; then test pictures are scored, each row kept as
soon as it is there; then all rows become `records.csv`, and from it come all tables.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import save
from torch.utils.tensorboard import SummaryWriter

from configs.engine import git_revision, make_fabric, versions
from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_json, write_rows
from configs.progress import Progress
from configs.schema import RunConfig
from detectors.inference import to_grey
from detectors.sources import MapSizeError, Source, check_map, open_source
from forgeries.methods import canonical, family, list_methods, method_names, same_method
from forgeries.perturbations import covers, expand
from forgeries.photos import Photo, PhotoSet
from forgeries.readers import AUTHENTIC, Cases, read_by_method
from results import guards
from results.cases import (
    AuthenticCases,
    CaseSet,
    ForgedCases,
    ReadCases,
    TestCase,
    Unreadable,
    in_words,
    load_cases,
)
from results.fingerprints import of_dataset, of_photos, origins_known
from results.guards import Finding, Fingerprint
from results.maps import MapCache, code_digest, map_cache
from results.metrics import auc, best_threshold, image_threshold, pool, rank
from results.metrics.variants import VARIANTS
from results.parts import Part, Writer, finished, read_parts
from results.records import METRICS, RECORDS, VALIDATION, VARIANT_ROWS
from results.summary import write_summaries
from results.tables import is_mean

SPLIT, THRESHOLDS = "test", "threshold"
"""Random streams of test pictures, and of those that thresholds are chosen on."""

WRONG_SIZE = "map size: "
"""Begins the error of a map of another size than its picture."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A line of the tables: a detector, one of its seeds ("" where it has none), and how it is run."""

    name: str
    seed: str
    spec: str
    source: Source

    @property
    def label(self) -> str:
        """Names a folder, and people read it."""
        return f"{self.name} seed {self.seed}" if self.seed else self.name


@dataclass(frozen=True)
class Threshold:
    """What was chosen on validation photographs for pixels and for pictures, NaN where it could not be."""

    pixel: float = float("nan")
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


def run_benchmark(config: RunConfig, folder: Path, photos: PhotoSet | None) -> None:
    """Writes what docs/benchmark.md lists into `results`, `summary.csv` last. Every finished picture of an interrupted
    run is kept. Of several processes (torchrun) each scores a share of the pictures, and the first writes the files.

    The photographs' test split is used, or where the configuration names `benchmark.data`, that dataset.

    Raises:
        UserError: no detector, one that cannot be had, or a finding of `results.guards` that is not allowed.
    """
    out, settings = folder / "results", config.benchmark
    fabric = make_fabric(config)
    entries = open_entries(settings.detectors, settings.baselines, folder, str(fabric.device))
    read = read_by_method(Path(settings.data)) if settings.data else {}
    sets = case_sets(config, photos.test if photos else (), read)
    tested = of_dataset(Path(settings.data), read) if settings.data else of_photos(photos.test if photos else ())
    validation = of_photos(photos.val) if photos and settings.validation else []
    found = _findings(entries, tested, validation, sets)
    if settings.data and any(entry.source.provenance["methods"] != [] for entry in entries) \
            and not origins_known(Path(settings.data), read):
        found.append(guards.unknown_origins(settings.data))
    findings = guards.apply(found, settings.allow)
    bench = Bench(config, out / "parts", entries, map_cache(settings.map_cache_gigabytes), fabric.global_rank,
                  fabric.world_size, fabric.device.type)
    partial = "partial" in settings.allow and any(bench.parts.rglob("*.jsonl"))
    # No process writes before all have looked.
    fabric.barrier()
    _check_unchanged(bench, [*tested, *validation], read)
    if photos and settings.validation:
        chosen = validation_sets(config, entries, photos.val)
        if not partial:
            _score(bench, THRESHOLDS, chosen, "thresholds")
            fabric.barrier()
        bench = replace(bench, thresholds={entry.label: choose_threshold(bench, entry, chosen) for entry in entries})
        findings += _without_maps(bench, chosen)
    if not partial:
        _score(bench, SPLIT, dict.fromkeys(sets, entries), "benchmark")
        fabric.barrier()
    if bench.rank == 0:
        _write(bench, folder, sets, findings)
    fabric.barrier()


def open_entries(specs: Sequence[str], baselines: Sequence[str], folder: Path, device: str) -> list[Entry]:
    """The detectors that `specs` name; by default all that were retrained in `folder`, and `baselines`.

    Raises:
        UserError: there is none, one cannot be opened, or two have one name that nobody gave them.
    """
    given = [(spec, "=" in spec) for spec in specs]
    if not given:
        for path in sorted((folder / "retrain").glob("*/model.safetensors")):
            given.append((str(path.parent), False))
        for path in sorted((folder / "retrain").glob("*/seed-*/model.safetensors")):
            given.append((f"{path.parent.parent.name}={path.parent}", True))
    if not given:
        raise UserError(f"{folder}: no retrained detector there; run retrain first, or name detectors with --detectors "
                        "('giidnet list detectors' shows those that need no weights)")
    given += [(spec, False) for spec in baselines if not specs]
    opened = [(spec, named, open_source(spec, device)) for spec, named in given]
    entries: list[Entry] = []
    for name, group in groupby(sorted(opened, key=lambda one: one[2].name), key=lambda one: one[2].name):
        found = list(group)
        if len(found) > 1 and not all(named for _, named, _ in found):
            raise UserError(f"benchmark.detectors: two checkpoints are called {name}; give names as in "
                            f"first={found[0][0]}, the same name for seeds of one detector")
        _check_seeds(name, [source for _, _, source in found])
        seeds = [(source.provenance.get("protocol") or {}).get("training_seed", source.seed) for _, _, source in found]
        labels = [str(seed) for seed in seeds] if None not in seeds and len(set(seeds)) == len(seeds) \
            else [str(number) for number in range(len(found))]
        entries += [Entry(name, seed if len(found) > 1 else "", spec, source)
                    for (spec, _, source), seed in zip(found, labels, strict=True)]
    order = {source.name: place for place, (_, _, source) in reversed(list(enumerate(opened)))}
    return sorted(entries, key=lambda entry: (order[entry.name], entry.seed))


def _check_seeds(name: str, sources: Sequence[Source]) -> None:
    """Those of one name differ by the seed alone, as far as they tell.

    Raises:
        UserError: they do not.
    """
    if len({source.digest for source in sources if source.digest}) < sum(bool(source.digest) for source in sources):
        raise UserError(f"benchmark.detectors: two of those called {name} are the same; name each once")
    kinds = {(source.detector, source.parameters, tuple(source.provenance["methods"] or ())) for source in sources}
    if len(kinds) > 1:
        raise UserError(f"benchmark.detectors: those called {name} are of different networks or training methods, and "
                        "so no seeds of one detector; give them names of their own")


def case_sets(config: RunConfig, photos: Sequence[Photo], read: Mapping[str, Cases]) -> list[CaseSet]:
    """Test cases by perturbation and method, unforged ones last.

    Raises:
        UserError: a method's name cannot stand in the tables.
    """
    settings = config.benchmark
    specs = {} if read else dict(zip(method_names(settings.methods), settings.methods, strict=True))
    for name in read:
        if is_mean(name) or not name.isprintable():
            raise UserError(f"{settings.data}: a method called {name!r}: such a name is taken for a mean, or cannot be "
                            "printed; rename it")
    found = []
    for perturbation in expand(settings.perturbations):
        found += [CaseSet(perturbation, method, family(cases[0].method), ReadCases(cases, perturbation, config.seed),
                          len(cases), bool(cases[0].method)) for method, cases in read.items()]
        found += [CaseSet(perturbation, method, family(spec), ForgedCases(config, photos, SPLIT, spec, perturbation,
                                                                           settings.images), settings.images)
                  for method, spec in specs.items()]
        if settings.authentic and not read:
            cases = AuthenticCases(config, photos, SPLIT, perturbation, settings.authentic)
            found.append(CaseSet(perturbation, AUTHENTIC, AUTHENTIC, cases, settings.authentic))
    return found


def validation_sets(config: RunConfig, entries: Sequence[Entry], photos: Sequence[Photo]) \
        -> "dict[CaseSet, Sequence[Entry]]":
    """Cases that thresholds are chosen on, with the detectors for which they are.

    For each detector as many forgeries as `benchmark.validation`, in equal parts by the methods that it was trained
    on, as far as they can be had here, else by `forgeries.methods`; and as many unforged pictures. No method that it
    never saw has a say.
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
    """For pixels, the threshold of the largest mean F1 over validation forgeries; for pictures, that of the largest
    balanced accuracy of the pooled scores against the unforged ones."""
    histograms, scores, labels, methods = [], [], [], []
    for one, chosen in sets.items():
        if entry not in chosen:
            continue
        forged = one.method != AUTHENTIC
        if forged:
            methods.append(one.method.rpartition("-")[0])
        for part in read_parts(_place(bench, THRESHOLDS, one, entry)):
            if part.histogram is not None:
                scores.append(float(part.row["score"]))
                labels.append(forged)
                if forged:
                    histograms.append(part.histogram)
    count = sum(labels)
    return Threshold(best_threshold(np.stack(histograms)) if histograms else float("nan"),
                     image_threshold(np.array(scores), np.array(labels)) if 0 < count < len(labels) else float("nan"),
                     count, len(labels) - count, tuple(methods))


def _findings(entries: Sequence[Entry], tested: Sequence[Fingerprint], validation: Sequence[Fingerprint],
              sets: Sequence[CaseSet]) -> list[Finding]:
    """What guards find before anything is scored."""
    methods = dict.fromkeys(one.method for one in sets if one.named)
    perturbations = dict.fromkeys(one.perturbation for one in sets)
    found = guards.unnamed_methods(one.method for one in sets if not one.named)
    for entry in entries:
        name, trained = entry.label, entry.source.provenance
        found += guards.trained_on(name, trained, [(photo.label, photo.digest) for photo in tested])
        found += guards.near_duplicates_of(name, trained, {photo.label: photo.hash for photo in tested})
        if entry.source.kind != "maps":
            found += guards.threshold_on_test(name, validation, tested)
        found += guards.seen_methods(name, trained, methods)
        found += guards.seen_perturbations(name, trained, perturbations)
    return found


def _without_maps(bench: Bench, sets: "Mapping[CaseSet, Sequence[Entry]]") -> list[Finding]:
    """Detectors that failed on pictures of their validation."""
    found = []
    for entry in bench.entries:
        chosen = bench.thresholds[entry.label]
        asked = sum(one.length for one, entries in sets.items() if entry in entries)
        if missing := asked - chosen.pictures - chosen.authentic:
            found.append(Finding("validation-failures", entry.label, f"has no map of {missing} of {asked} validation "
                                 "pictures; its thresholds are of the others", True))
    return found


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
    known = provenance["methods"]
    return seen_label(one.method, known if one.named or known == [] else None, same_method)


def _place(bench: Bench, split: str, one: CaseSet, entry: Entry) -> Path:
    return bench.parts / split / one.perturbation / one.method / entry.label


def _check_unchanged(bench: Bench, photos: Sequence[Fingerprint], read: Mapping[str, Cases]) -> None:
    """Rows of an interrupted run are of the same detectors and pictures.

    Raises:
        UserError: weights or files have changed since.
    """
    path = bench.parts / "began.csv"
    files = hashlib.sha256(repr([(photo.label, photo.digest) for photo in photos]).encode())
    for case in (case for cases in read.values() for case in cases):
        changed = case.mask.stat().st_mtime_ns if isinstance(case.mask, Path) else 0
        files.update(f"{case.method} {case.name} {case.mask} {changed}".encode("utf-8", "surrogateescape"))
    rows = [{"what": entry.label, "digest": entry.source.digest or ""} for entry in bench.entries]
    rows.append({"what": "the test pictures", "digest": files.hexdigest()})
    known = read_rows(path)
    if known and known != rows:
        changed_ones = [row["what"] for row in known if row not in rows] or [rows[-1]["what"]]
        raise UserError(f"{', '.join(changed_ones)}: changed since this benchmark began; delete {bench.parts} to score "
                        "anew")
    if bench.rank == 0 and not known:
        write_rows(path, ("what", "digest"), rows)


def _score(bench: Bench, split: str, sets: "Mapping[CaseSet, Sequence[Entry]]", title: str) -> None:
    """Scores this process's share of the pictures that are not done yet."""
    todo = {}
    for one, entries in sets.items():
        shares = range(bench.rank, one.length, bench.world)
        todo[one] = {entry: sorted(set(shares) - finished(_place(bench, split, one, entry))) for entry in entries}
    total = sum(len(range(bench.rank, one.length, bench.world)) * len(entries) for one, entries in sets.items())
    left = sum(len(indices) for entries in todo.values() for indices in entries.values())
    with Progress(title, total, total - left, unit="map") as progress:
        for one, pending in todo.items():
            indices = sorted(set().union(*pending.values()))
            if not indices:
                continue
            writers = {entry: Writer(_place(bench, split, one, entry), bench.rank)
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
           "perturbation_seen": seen_label(one.perturbation, trained_on["perturbations"], covers),
           "image": case.name, "source": case.source}
    if isinstance(case, Unreadable):
        return Part(index, {**row, "error": case.what}, None)
    row |= {"digest": case.digest, "mask_kind": case.mask_kind, "mask_fraction": _text(float(case.mask.mean())),
            "pixels": str(case.mask.size)}
    try:
        probability = find_map(bench, entry, one, case)
    except Exception as error:
        # Whatever a network or a user's function raises, for this picture alone.
        size = WRONG_SIZE if isinstance(error, MapSizeError) else ""
        return Part(index, {**row, "error": size + in_words(error)}, None)
    ranked = rank(probability, case.mask)
    numbers = ranked.numbers(bench.thresholds.get(entry.label, Threshold()).pixel)
    row |= {key: _text(numbers[key]) for key in (*METRICS, "best_threshold")}
    row["score"] = _text(pool(probability, bench.config.benchmark.pooling))
    return Part(index, row, ranked.histogram())


def find_map(bench: Bench, entry: Entry, one: CaseSet, case: TestCase) -> np.ndarray:
    """The map float32 H×W of a case, from the cache where it is there; what the detector raises.

    Raises:
        ValueError: of another size than the picture, or not of numbers in [0, 1].
    """
    def predict() -> np.ndarray:
        return check_map(entry.source.predict(case.image, place, case.name), case.image)

    # Maps that were computed elsewhere are of one perturbation, too.
    place = one.method if one.perturbation == "none" else f"{one.perturbation}/{one.method}"

    if bench.cache is None or entry.source.digest is None:
        return predict()
    network = " ".join((entry.source.digest, bench.device, code_digest(), *versions().values()))
    return bench.cache.find(network, case.image, predict)


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.9g}"


def _exact(value: float) -> str:
    """A threshold is compared with scores: rounded, it may become one of them."""
    return "" if np.isnan(value) else repr(float(value))


def _write(bench: Bench, folder: Path, sets: Sequence[CaseSet], findings: list[Finding]) -> None:
    """All files, from the parts."""
    config, out = bench.config, folder / "results"
    curves: dict[str, np.ndarray] = {}
    chosen: dict[CaseSet, list[tuple[str, int]]] = {}
    counts = {"rows": 0, "expected": sum(one.length for one in sets) * len(bench.entries)}
    failures: dict[str, list[str]] = {}
    first = sets[0].perturbation
    with SummaryWriter(str(folder / "tensorboard" / "benchmark")) as board:

        def rows() -> Iterator[Mapping[str, str]]:
            for one in sets:
                scores: dict[int, list[float]] = {}
                for entry in bench.entries:
                    parts = read_parts(_place(bench, SPLIT, one, entry))
                    counts["rows"] += len(parts)
                    found = [part.histogram for part in parts if part.histogram is not None]
                    if found:
                        curves["\t".join((entry.name, entry.seed, one.perturbation, one.method))] = np.sum(found, 0)
                    for part in parts:
                        if part.row.get("error"):
                            failures.setdefault(entry.label, []).append(part.row["error"])
                        else:
                            scores.setdefault(part.index, []).append(_goodness(part.row))
                    values = [float(part.row["auc"]) for part in parts if part.row.get("auc")]
                    if values:
                        board.add_scalar(f"benchmark/{entry.label}/{one.perturbation}/{one.method}",
                                         float(np.mean(values)))
                    yield from (part.row for part in parts)
                if one.perturbation == first:
                    means = {index: float(np.nanmean(values)) for index, values in scores.items()
                             if not np.isnan(values).all()}
                    chosen[one] = by_rank(means, config.benchmark.gallery)

        write_rows(out / "records.csv", RECORDS, rows())
        write_atomic(out / "curves.safetensors", save(curves))
        write_rows(out / "thresholds.csv", VALIDATION, [
            {"detector": entry.name, "seed": entry.seed, "threshold": _exact(found.pixel),
             "image_threshold": _exact(found.image), "pictures": found.pictures, "authentic": found.authentic,
             "methods": " ".join(found.methods)}
            for entry in bench.entries if (found := bench.thresholds.get(entry.label, Threshold()))])
        shutil.rmtree(out / "gallery", ignore_errors=True)
        for one, ranks in chosen.items():
            for rank, index in ranks:
                _show(bench, out / "gallery" / one.method / rank, one, index, board)
    if not counts["rows"]:
        raise UserError(f"{bench.parts}: no test picture was scored before the interruption; continue without "
                        "benchmark.allow=[partial]")
    for label, errors in failures.items():
        if sizes := [error for error in errors if error.startswith(WRONG_SIZE)]:
            findings = [*findings, Finding("map-size", label, f"gave {len(sizes)} maps of another size than the "
                                           f"picture ({sizes[0]}); they count as failures", True)]
    complete = counts["rows"] == counts["expected"]
    if not complete:
        findings = [*findings, Finding("partial", "", f"{counts['rows']} of {counts['expected']} maps were scored; "
                                       "the rest is missing from every number", True)]
    if config.benchmark.variants:
        write_rows(out / "variants.csv", VARIANT_ROWS, _variants(bench, sets))
    write_json(out / "benchmark.json", describe(bench, findings, counts["expected"], complete))
    write_summaries(out, config.benchmark.bootstrap, config.seed, config.benchmark.smallest,
                    config.benchmark.fractions)
    if complete:
        shutil.rmtree(bench.parts, ignore_errors=True)


def _variants(bench: Bench, sets: Sequence[CaseSet]) -> Iterator[dict[str, Any]]:
    """What published evaluation code would say: of each method's pictures, and of all together."""
    for perturbation, group in groupby(sets, key=lambda one: one.perturbation):
        own = list(group)
        parts = {one.method: [one] for one in own if one.method != AUTHENTIC} | {"all": own}
        for entry, (method, chosen), name in product(bench.entries, parts.items(), bench.config.benchmark.variants):
            counted = [0]
            found = VARIANTS[name].function(_pairs(bench, entry, chosen, counted)) if chosen else {}
            for number, value in found.items():
                yield {"detector": entry.name, "seed": entry.seed, "perturbation": perturbation, "method": method,
                       "variant": name, "number": number, "value": _text(value), "pictures": counted[0]}


def _pairs(bench: Bench, entry: Entry, sets: Sequence[CaseSet], counted: list[int]) \
        -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps with their masks, of all pictures that have a map."""
    for one in sets:
        for case in load_cases(one.cases, range(one.length), bench.config.forgeries.workers):
            if isinstance(case, Unreadable):
                continue
            try:
                probability = find_map(bench, entry, one, case)
            except Exception:
                # It stands in records.csv, with its message.
                continue
            counted[0] += 1
            yield probability, case.mask


def describe(bench: Bench, findings: Sequence[Finding], expected: int, complete: bool) -> dict[str, Any]:
    """`benchmark.json`: what was benchmarked, and what the guards found."""
    detectors: dict[str, list[dict[str, Any]]] = {}
    for entry in bench.entries:
        source, trained = entry.source, entry.source.provenance
        photographs = sum(map(len, trained["photos"].values())) if trained["photos"] else None
        protocol = trained.get("protocol") or {}
        detectors.setdefault(entry.name, []).append({
            "seed": int(entry.seed) if entry.seed else None, "spec": entry.spec, "kind": source.kind,
            "detector": source.detector, "digest": source.digest or "", "parameters": source.parameters,
            "trained_on": {"methods": trained["methods"], "perturbations": trained["perturbations"],
                           "photographs": photographs, "pictures_seen": trained.get("pictures_seen"),
                           "group": protocol.get("group"), "trainee": protocol.get("trainee")}})
    settings = bench.config.benchmark
    return {"protocol": settings.protocol, "detectors": detectors, "guards": [vars(finding) for finding in findings],
            "complete": complete, "expected": expected, "versions": versions(), "git_revision": git_revision(),
            "pooling": settings.pooling}


def _goodness(row: Mapping[str, str]) -> float:
    """What the gallery ranks by: AUC, or of an authentic picture the share that is not flagged."""
    if row["method"] == AUTHENTIC:
        return 1 - float(row["false_alarm"])
    return float(row["auc"] or "nan")


def by_rank(scores: Mapping[int, float], count: int) -> list[tuple[str, int]]:
    """Names and keys of `count` places of `scores`, evenly from the best to the worst."""
    order = sorted(scores, key=lambda index: (-scores[index], index))
    count = min(count, len(order))
    shares = [place / max(count - 1, 1) for place in range(count)]
    names = {0.0: "best", 0.5: "median", 1.0: "worst"}
    return [(names.get(share, f"quantile-{100 * (1 - share):.0f}"), order[round(share * (len(order) - 1))])
            for share in shares]


def _show(bench: Bench, place: Path, one: CaseSet, index: int, board: SummaryWriter) -> None:
    """Writes a picture of the gallery, with the maps of all detectors (of seeds, the first)."""
    case = one.cases[index]
    _write_png(place / "image.png", case.image[..., ::-1])
    _write_png(place / "mask.png", case.mask.astype(np.uint8) * 255)
    scores = {}
    for entry in bench.entries:
        if entry.name in scores:
            continue
        try:
            probability = find_map(bench, entry, one, case)
        except Exception:
            # It stands in records.csv, with its message.
            continue
        scores[entry.name] = _text(auc(probability, case.mask))
        _write_png(place / f"map-{entry.name}.png", to_grey(probability))
    write_json(place / "case.json", {"image": case.name, "source": case.source, "method": one.method,
                                     "perturbation": one.perturbation, "auc": scores})
    board.add_image(f"benchmark/{one.method}/{place.name}", case.image, dataformats="HWC")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, cv2.imencode(".png", pixels)[1].tobytes())
