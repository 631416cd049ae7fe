"""A results folder as the benchmark leaves it, with numbers that are made up but fit together."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save

from configs.files import write_atomic, write_json, write_rows
from results.records import METRICS, RECORDS, VALIDATION

METHODS = ("TE", "NS", "PM", "GC", "LAMA", "LDM", "BH", "PC", "MAT", "SD2", "EC", "CA", "SH", "LB", "RN", "SG",
           "RePaint", "GLIDE", "FMM", "SDXL")
KINDS = {"classical": {"TE", "NS", "PM", "BH", "PC", "FMM"}, "diffusion": {"LDM", "SD2", "RePaint", "GLIDE", "SDXL"}}
DETECTORS = ("giidnet", "iid-net", "mantranet", "hpfcn", "noise_variance", "ela", "constant")
CONFIG = """
name: synthetic
seed: 3
forgeries: {methods: [TE, NS]}
search: {strategy: one-shot}
benchmark: {bootstrap: 100}
"""
POOLED = ("auc", "auc_error", "ap", "f1", "iou", "mcc", "best_f1", "best_iou", "best_threshold", "calibration_error")
FAILURE = "the map has NaN or infinite values"


@dataclass(frozen=True)
class Shape:
    """How large a benchmark is made up."""

    detectors: tuple[str, ...] = DETECTORS[:4]
    methods: tuple[str, ...] = METHODS[:6]
    perturbations: tuple[str, ...] = ("none",)
    pictures: int = 12
    seeds: int = 1
    authentic: bool = True
    gallery: bool = True
    seen: tuple[str, ...] = ("TE", "NS")


def kind(method):
    return next((name for name, members in KINDS.items() if method in members), "learned")


def write_run(folder: Path, shape: Shape = Shape(), seed: int = 0, trained_on=None, protocol="seen-unseen") -> Path:
    """Writes `config.yaml` and `results/` of a run folder; `trained_on` maps detectors to (group, trainee, methods)."""
    trained_on = trained_on or dict.fromkeys(shape.detectors, (None, None, shape.seen))
    out, generator = folder / "results", np.random.default_rng(seed)
    write_atomic(folder / "config.yaml", CONFIG)
    base = {name: 0.95 - 0.35 * index / max(1, len(shape.detectors)) for index, name in enumerate(shape.detectors)}
    quality = {(name, method): base[name] - (0 if method in trained_on[name][2] else 0.06) - 0.05 * generator.random()
               for name in shape.detectors for method in shape.methods}
    lost = {name: 0.25 * index / max(1, len(shape.perturbations)) for index, name in enumerate(shape.perturbations)}
    _records(out / "records.csv", shape, quality, lost, trained_on, generator)
    _summaries(out, shape, quality, lost, trained_on)
    _curves(out / "curves.safetensors", shape, quality)
    write_rows(out / "thresholds.csv", VALIDATION, [
        {"detector": name, "seed": number, "threshold": "0.41", "image_threshold": "0.52", "pictures": 20,
         "authentic": 5, "methods": " ".join(trained_on[name][2])}
        for name in shape.detectors for number in seeds_of(shape)])
    write_json(out / "benchmark.json", {
        "protocol": protocol,
        "detectors": {name: [{"seed": number or None, "spec": f"retrain/{name}", "kind": "checkpoint",
                              "detector": "giidnet", "digest": f"{index:064x}", "parameters": 1000 * (index + 1),
                              "trained_on": {"methods": list(trained_on[name][2]), "perturbations": ["none"],
                                             "photographs": 40, "pictures_seen": 640, "group": trained_on[name][0],
                                             "trainee": trained_on[name][1]}} for number in seeds_of(shape)]
                      for index, name in enumerate(shape.detectors)},
        "guards": [{"guard": "trained-on", "detector": shape.detectors[0],
                    "what": "2 test photographs are in its train split", "allowed": True},
                   {"guard": "seen-methods", "detector": shape.detectors[0], "what": "trained on TE, NS",
                    "allowed": True}],
        "complete": True, "expected": len(shape.detectors) * len(shape.methods) * shape.pictures,
        "versions": {"python": "3.11.9", "torch": "2.9.0"}, "git_revision": "0123abcd", "pooling": "top-0.01"})
    if shape.gallery:
        _gallery(out / "gallery", shape, generator)
    return folder


def seeds_of(shape):
    return [str(number) for number in range(shape.seeds)] if shape.seeds > 1 else [""]


def _records(path, shape, quality, lost, trained_on, generator):
    """Written line by line: a large one has millions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = dict.fromkeys(RECORDS, "")
    template = ",".join(f"{{{name}}}" for name in RECORDS) + "\n"
    with path.open("w") as file:
        file.write(",".join(RECORDS) + "\n")
        methods = [*shape.methods, *["authentic"] * shape.authentic]
        noise = generator.normal(0, 0.08, (len(methods), shape.pictures))
        for perturbation, (column, method), name, number in itertools.product(
                shape.perturbations, enumerate(methods), shape.detectors, seeds_of(shape)):
            authentic = method == "authentic"
            row = blank | {"detector": name, "seed": number, "method": method, "perturbation": perturbation,
                           "kind": "authentic" if authentic else kind(method),
                           "seen": "seen" if method in trained_on[name][2] else "unseen", "perturbation_seen": "unseen",
                           "mask_kind": "" if authentic else "blob", "pixels": "65536"}
            row |= dict.fromkeys(METRICS, "" if authentic else "0.5") | {"false_alarm": "0.03125"}
            row |= {"image": "{image}", "source": "{source}", "auc": "{auc}", "f1": "{f1}", "score": "{score}",
                    "mask_fraction": "{fraction}", "error": "{error}"}
            line = template.format_map(row)
            middle = 0.5 if authentic else quality[name, method] - lost[perturbation]
            values = np.clip(middle + noise[column] + generator.normal(0, 0.02, shape.pictures), 0, 1)
            broken = line.format(image="photo00000-00000", source="photo00000", auc="", f1="", score="",
                                 fraction="0" if authentic else "0.010", error=FAILURE)
            file.writelines(broken if name == "ela" and not index else line.format(
                image=f"photo{index // 4:05d}-{index:05d}", source=f"photo{index // 4:05d}",
                auc="" if authentic else f"{value:.6f}", f1="" if authentic else f"{value / 2:.6f}",
                score=f"{value * (0.6 if authentic else 1):.6f}",
                fraction="0" if authentic else f"{0.01 + 0.001 * (index % 300):.3f}", error="")
                for index, value in enumerate(values))


def _number(value):
    return "" if value is None else f"{value:.6f}"


def _interval(name, value, half=0.02):
    return {name: _number(value), f"{name}_low": _number(None if value is None else max(0, value - half)),
            f"{name}_high": _number(None if value is None else min(1, value + half))}


def _write(path, rows):
    if rows:
        write_rows(path, list(rows[0]), rows)


def _summaries(out, shape, quality, lost, trained_on):
    summary, pooled, images, sizes, ranks, comparisons, power, variance = [], [], [], [], [], [], [], []
    for perturbation, name in itertools.product(shape.perturbations, shape.detectors):
        def label(method, name=name):
            return "seen" if method in trained_on[name][2] else "unseen"

        means = {}
        for method in shape.methods:
            means.setdefault(label(method), []).append(quality[name, method] - lost[perturbation])
        values = {(f"mean {seen}", "", seen): float(np.mean(found)) for seen, found in means.items()}
        rows = {(method, kind(method), label(method)): quality[name, method] - lost[perturbation]
                for method in shape.methods} | values
        for (method, family, seen), value in rows.items():
            base = {"detector": name, "perturbation": perturbation, "method": method}
            summary.append({**base, "kind": family, "seen": seen, "seeds": shape.seeds, "count": shape.pictures,
                            "sources": -(-shape.pictures // 4), "undefined": 0, "failures": int(name == "ela"),
                            **{key: cell for index, metric in enumerate(METRICS) for key, cell in _interval(
                                metric, value - 0.01 * index if index % 7 != 6 else 0.01 * index).items()}})
            pooled.append({**base, "method": method.replace("mean", "all"), "seen": seen, "pixels": 65536 * 12,
                           "positives": 65536, **{key: _number(value) for key in POOLED}})
            if shape.authentic:
                images.append({**base, "forged": shape.pictures, "authentic": shape.pictures,
                               **_interval("auc", value), **{key: _number(value) for key in (
                                   "accuracy", "balanced_accuracy", "f1", "threshold")}})
        if shape.authentic:
            summary.append({"detector": name, "perturbation": perturbation, "method": "authentic", "kind": "authentic",
                            "seen": "unknown", "seeds": shape.seeds, "count": shape.pictures,
                            "sources": -(-shape.pictures // 4), "undefined": 0, "failures": 0,
                            **{key: cell for metric in METRICS for key, cell in _interval(
                                metric, 0.03 if "false_alarm" in metric else None, 0.01).items()}})
        for (_, _, seen), value in values.items():
            for factor, levels in (("mask fraction", ("< 1 %", "1–5 %", "5–10 %", "10–25 %", "≥ 25 %")),
                                   ("mask kind", ("blob", "stroke", "box"))):
                sizes += [{"detector": name, "perturbation": perturbation, "seen": seen, "factor": factor,
                           "level": level, "count": shape.pictures, "sources": -(-shape.pictures // 4),
                           **_interval("auc", value - 0.1 + 0.03 * index), **_interval("f1", value / 2)}
                          for index, level in enumerate(levels)]
    for perturbation in shape.perturbations:
        base = {"perturbation": perturbation, "methods": "mean unseen", "metric": "auc"}
        overall = {name: float(np.mean([quality[name, method] for method in shape.methods]))
                   for name in shape.detectors}
        order = sorted(shape.detectors, key=lambda name: -overall[name])
        ranks += [{**base, "detector": name, "rank": f"{1.2 + 0.8 * index:.6f}", "blocks": 12,
                   "critical_difference": "1.400000", "p": "0.001000"} for index, name in enumerate(order)]
        for first, second in itertools.combinations(order, 2):
            difference = overall[first] - overall[second]
            beats = difference > 0.02
            comparisons.append({**base, "first": first, "second": second, "count": shape.pictures, "sources": 12,
                                "difference": _number(difference), "low": _number(difference - 0.02),
                                "high": _number(difference + 0.02), "p": "0.001000" if beats else "0.200000",
                                "p_corrected": "0.006000" if beats else "0.400000", "effect": "0.800000",
                                "claim": f"{first} beats {second}" if beats else "",
                                "first_mean": _number(overall[first]), "second_mean": _number(overall[second]),
                                "lost": 0, "comparisons": 6})
            power.append({**base, "first": first, "second": second, "sd": "0.080000", "sources": 12,
                          "smallest": "0.065000", "wanted": "0.020000", "sources_needed": 127,
                          "pictures_needed": 1270})
        if shape.seeds > 1:
            variance += [{"detector": name, **base, "seeds": shape.seeds, "seed_sd": "0.010000",
                          "source_sd": "0.040000", "picture_sd": "0.080000"} for name in order]
    for file, rows in (("summary", summary), ("pooled", pooled), ("images", images), ("sizes", sizes),
                       ("comparisons", comparisons), ("ranks", ranks), ("power", power), ("variance", variance)):
        _write(out / f"{file}.csv", rows)


def _curves(path, shape, quality):
    bins = (np.arange(1024) + 0.5) / 32 - 16

    def counts(middle, total):
        weights = np.exp(-((bins - middle) ** 2) / 8)
        return np.rint(total * weights / weights.sum()).astype(np.int64)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save({
        f"{name}\t{number}\t{perturbation}\t{method}": np.stack(
            [counts(-2, 10**6), counts(-2 + 10 * (quality[name, method] - 0.5), 10**5)])
        for name in shape.detectors for number in seeds_of(shape) for perturbation in shape.perturbations[:1]
        for method in shape.methods}))


def _gallery(place, shape, generator):
    for method, (index, rank) in itertools.product(shape.methods, enumerate(("best", "median", "worst"))):
        case = place / method / rank
        image = cv2.GaussianBlur(generator.integers(0, 255, (96, 128, 3), np.uint8), (0, 0), 4)
        mask = cv2.circle(np.zeros((96, 128), np.uint8), (40 + 20 * index, 50), 20, 255, -1)
        write_json(case / "case.json", {"image": f"photo00000-0000{index}", "source": "photo00000",
                                        "perturbation": shape.perturbations[0],
                                        "auc": dict.fromkeys(shape.detectors, f"{0.9 - 0.2 * index}")})
        for name, pixels in {"image": image, "mask": mask, **{
                f"map-{detector}": cv2.GaussianBlur(mask, (0, 0), 6) for detector in shape.detectors}}.items():
            write_atomic(case / f"{name}.png", cv2.imencode(".png", pixels)[1].tobytes(), sync=False)
