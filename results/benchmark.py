"""The benchmark: each detector × perturbation × method, on photographs that no detector was trained on.

Thresholds are chosen first, on forgeries of validation photographs; then test pictures are scored, each row kept as
soon as it is there; then all rows become `records.csv`, and from it come all tables.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
from configs.schema import RunConfig
from detectors.inference import to_grey
from forgeries.photos import PhotoSet
from forgeries.readers import AUTHENTIC, Cases, read_by_method
from results import guards
from results.ablation import ABLATION, ablation_rows, groups_of
from results.cases import SPLIT, CaseSet, case_sets
from results.entries import Entry, open_entries
from results.fingerprints import of_dataset, of_photos, origins_known
from results.guards import Finding, Fingerprint
from results.maps import map_cache
from results.metrics import auc
from results.metrics.variants import VARIANTS
from results.parts import read_parts
from results.records import RECORDS, VALIDATION, VARIANT_ROWS
from results.scoring import WRONG_SIZE, Bench, Threshold, as_field, find_map, place_of, score_sets
from results.summary import write_summaries
from results.thresholds import THRESHOLDS, choose_threshold, validation_failures, validation_sets


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
            score_sets(bench, THRESHOLDS, chosen, "thresholds")
            fabric.barrier()
        bench = replace(bench, thresholds={entry.label: choose_threshold(bench, entry, chosen) for entry in entries})
        findings += validation_failures(bench, chosen)
    if not partial:
        score_sets(bench, SPLIT, dict.fromkeys(sets, entries), "benchmark")
        fabric.barrier()
    if bench.rank == 0:
        _write(bench, folder, sets, findings)
    fabric.barrier()


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
        found += guards.unknown_selection(name, trained)
        found += guards.seen_perturbations(name, trained, perturbations)
    return found


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
                    parts = read_parts(place_of(bench, SPLIT, one, entry))
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
             "quiet_threshold": _exact(found.quiet), "image_threshold": _exact(found.image),
             "pictures": found.pictures, "authentic": found.authentic, "methods": " ".join(found.methods)}
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
    about = describe(bench, findings, counts["expected"], complete)
    write_json(out / "benchmark.json", about)
    write_summaries(out, config.benchmark.bootstrap, config.seed, config.benchmark.smallest,
                    config.benchmark.fractions)
    if groups := groups_of(about):
        write_rows(out / "ablation.csv", ABLATION, ablation_rows(read_rows(out / "comparisons.csv"), groups))
    if complete:
        shutil.rmtree(bench.parts, ignore_errors=True)


def _variants(bench: Bench, sets: Sequence[CaseSet]) -> Iterator[dict[str, Any]]:
    """What published evaluation code would say: of each method's pictures, and of all together."""
    for (perturbation, group), entry in product(
            [(name, list(group)) for name, group in groupby(sets, key=lambda one: one.perturbation)], bench.entries):
        parts = {one.method: [part.variants for part in read_parts(place_of(bench, SPLIT, one, entry))
                              if part.histogram is not None] for one in group}
        chosen = {method: found for method, found in parts.items() if method != AUTHENTIC}
        chosen["all"] = [part for found in parts.values() for part in found]
        for (method, found), name in product(chosen.items(), bench.config.benchmark.variants):
            rows = np.array([part[name] for part in found], np.float64)
            for number, value in VARIANTS[name].combine(rows).items():
                yield {"detector": entry.name, "seed": entry.seed, "perturbation": perturbation, "method": method,
                       "variant": name, "number": number, "value": as_field(value), "pictures": len(found)}


def describe(bench: Bench, findings: Sequence[Finding], expected: int, complete: bool) -> dict[str, Any]:
    """`benchmark.json`: what was benchmarked, and what the guards found."""
    detectors: dict[str, list[dict[str, Any]]] = {}
    for entry in bench.entries:
        source, trained = entry.source, entry.source.provenance
        photographs = sum(map(len, trained["photos"].values())) if trained["photos"] else None
        protocol, start = trained.get("protocol") or {}, trained.get("start") or {}
        seen = trained.get("pictures_seen")
        detectors.setdefault(entry.name, []).append({
            "seed": int(entry.seed) if entry.seed else None, "spec": entry.spec, "kind": source.kind,
            "detector": source.detector, "digest": source.digest or "", "parameters": source.parameters,
            "threshold": trained.get("threshold"),
            "trained_on": {"methods": trained["methods"], "perturbations": trained["perturbations"],
                           "photographs": photographs,
                           "pictures_seen": seen and seen + (start.get("pictures_seen") or 0),
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
        scores[entry.name] = as_field(auc(probability, case.mask))
        _write_png(place / f"map-{entry.name}.png", to_grey(probability))
    write_json(place / "case.json", {"image": case.name, "source": case.source, "method": one.method,
                                     "perturbation": one.perturbation, "auc": scores})
    board.add_image(f"benchmark/{one.method}/{place.name}", case.image, dataformats="HWC")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, cv2.imencode(".png", pixels)[1].tobytes())
