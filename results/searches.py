"""What a search left in its run folder, and the figures drawn from it; what a run did not write is left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from configs.files import read_rows
from results import plots
from results.cells import draw_genotype, draw_genotypes
from results.ranking import TITLES, Comparison, against_random, ranking_over_epochs
from search_space.cost import pareto
from search_space.genotype import Genotype, read_genotype

COSTS = {"flops": "FLOP", "params": "parameters", "latency_ms": "latency (ms)"}
"""Title of each cost of a candidate."""

SHOWN = {"flops": lambda cost: f"{cost / 1e6:.1f} MFLOP", "params": lambda cost: f"{cost:,.0f} parameters",
         "latency_ms": lambda cost: f"{cost:.2f} ms"}
"""A cost with its unit."""

FRONT = 6
"""Genotypes of the front that are drawn."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class SearchFiles:
    """The files of a search; empty, or None, where they are missing.

    `metric` is "auc" or "f1", `price` the one of `COSTS` that the objective names, or "flops" where no candidate has
    it; `candidates` are rows with "score" and "exact" also where an older search wrote none.
    """

    metric: str
    price: str
    cost_weight: float
    genotype: Genotype | None
    candidates: Sequence[Row]
    history: Sequence[Row]
    ranking: Sequence[Row]
    weights: Sequence[Row]
    alone: Sequence[Row]
    cost: Mapping[str, Any]
    study_rows: Sequence[Row]
    study: Mapping[str, Any]

    @property
    def comparison(self) -> Comparison | None:
        """The chosen genotype against random ones, all trained alone; None where they were not."""
        return against_random(self.alone, self.metric)

    @property
    def chosen(self) -> Row | None:
        """The row of the candidate that the search chose."""
        return next((row for row in self.candidates if row["genotype"] == str(self.genotype)), None)

    @property
    def front(self) -> list[tuple[Genotype, Row]]:
        """The best of the candidates that no cheaper one reaches, best first, by the cost `price`."""
        if self.genotype is None:
            return []
        exact = _exact(self.candidates)
        found = [exact[index] for index in pareto([_point(row, self.price, self.metric) for row in exact])]
        return [(Genotype.parse(row["genotype"], self.genotype.space), row) for row in found[::-1][:FRONT]]


def read_search(folder: Path, config: Mapping[str, Any]) -> SearchFiles:
    """The search of the run folder `folder`, whose configuration is `config`."""
    place = folder / "search"
    objective = config["search"].get("objective", {})
    names = ("candidates", "history", "ranking", "architecture", "alone", "rank_study")
    candidates, history, ranking, weights, alone, study_rows = (read_rows(place / f"{name}.csv") for name in names)
    genotype = place / "genotype.yaml"
    candidates = [{"score": row["auc"], "exact": "1", "latency_ms": "", **row} for row in candidates]
    price = {"latency": "latency_ms"}.get(cost := objective.get("cost", "flops"), cost)
    return SearchFiles(
        objective.get("metric", "auc"), price if all(row[price] for row in candidates) else "flops",
        objective.get("cost_weight", 0.0), read_genotype(genotype) if genotype.exists() else None, candidates, history,
        ranking, weights, alone, _read_json(place / "cost.json"), study_rows, _read_json(place / "rank_study.json"))


def search_figures(search: SearchFiles) -> dict[str, Figure]:
    """Figures by name, in the order of the report."""
    name = TITLES[search.metric]
    figures = {}
    if search.genotype is not None:
        figures["cells"] = draw_genotype(search.genotype)
    if len(search.front) > 1:
        figures["front"] = draw_genotypes([(f"{name} {float(row[search.metric]):.3f}, "
                                            f"{SHOWN[search.price](float(row[search.price]))}", genotype)
                                           for genotype, row in search.front])
    if comparison := search.comparison:
        figures["against_random"] = plots.against_random_plot(
            _by_genotype(search.alone, search.metric), comparison.random, comparison.low, comparison.high,
            f"{name}, trained alone")
    if search.history:
        figures["loss"] = plots.curves({"": search.history}, "train_loss", "training loss")
        if any(row["val_auc"] for row in search.history):
            rows = [{"epoch": row["epoch"], **{key: row.get(key, "") for key in ("val_auc", "best_auc")}}
                    for row in search.history]
            figures["probes"] = plots.curves({
                label: [{"epoch": row["epoch"], "auc": row[key]} for row in rows]
                for label, key in (("mean", "val_auc"), ("best", "best_auc")) if any(row[key] for row in rows)},
                "auc", "validation AUC of the probes")
    if len(search.candidates) > 1:
        figures |= _candidate_figures(search, f"validation {name}")
    if len({row["epoch"] for row in search.ranking}) > 1:
        figures["ranks"] = plots.ranks_over_epochs(search.ranking)
        found = ranking_over_epochs(search.ranking)
        figures["agreement"] = plots.agreement_over_epochs([row.epoch for row in found], [row.to_last for row in found],
                                                           [row.to_previous for row in found])
    figures |= _architecture_figures(search.weights)
    if search.study_rows:
        inherited, alone, sd = ([float(row[key]) for row in search.study_rows] for key in ("inherited", "alone", "sd"))
        figures["rank_study"] = plots.inherited_against_alone(inherited, alone, sd, name)
    return figures


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """(part of the search, device-seconds, pictures seen)."""
    # Training is measured by one of the processes that share it; the rest are sums over those that took part.
    return [(title, cost[f"{key}_seconds"] * processes, cost[f"{key}_pictures"])
            for key, title, processes in (("train", "training", cost.get("processes", 1)),
                                          ("score", "scoring candidates", 1), ("check", "comparison with random", 1))
            if f"{key}_seconds" in cost]


def study_rows(study: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, how much, interval or nothing) of a rank study's figures; empty where there is none."""
    if not study:
        return []
    noise, p = study["noise"], study.get("p")
    return [(title, *_estimate(study[key])) for key, title in (
        ("kendall_tau", "Kendall τ"), ("spearman_rho", "Spearman ρ"), ("agreement", "τ between single seeds"),
        ("regret", "regret of the best inherited score"), ("random_regret", "regret of a random pick"),
        ("gain", "gain over a random pick"))] + [(title, figure, "") for title, figure in (
            ("p of such a τ by chance", "undefined" if p is None else f"{p:.2g}"),
            ("noise floor: sd between seeds", f"{noise['within_sd']:.4f}"),
            ("sd between architectures", f"{noise['between_sd']:.4f}"),
            ("reliability of the means", f"{noise['reliability']:.2f}"),
            ("τ that perfect scores would reach", f"{noise['attainable_tau']:.2f}"))]


def _estimate(parts: Mapping[str, float | None]) -> tuple[str, str]:
    value, low, high = (parts[key] for key in ("value", "low", "high"))
    return "undefined" if value is None else f"{value:.3f}", \
        "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _candidate_figures(search: SearchFiles, label: str) -> dict[str, Figure]:
    exact, chosen = _exact(search.candidates), search.chosen
    raced = [row for row in search.candidates if row["exact"] != "1"]
    figures = {"candidates": plots.candidate_scores(
        [float(row["score"]) for row in exact], [float(row["score"]) for row in raced],
        float(chosen["score"]) if chosen else None, label + " less cost" * bool(search.cost_weight))}
    for key, title in COSTS.items():
        if all(row[key] for row in search.candidates):
            given_up, kept = ([_point(row, key, search.metric) for row in rows] for rows in (raced, exact))
            figures[f"score_{key}"] = plots.score_against_cost(
                kept, given_up, _point(chosen, key, search.metric) if chosen else None, title, label)
    return figures


def _architecture_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """The slots together, a line a cell or several, and each other choice, whose options are its own."""
    slots = [row for row in rows if row["label"].startswith("cell")]
    in_cell = max(1, len({row["label"] for row in slots if row["label"].startswith("cell1_")}))
    others = dict.fromkeys(row["label"] for row in rows if row not in slots)
    return ({"architecture": plots.architecture_maps(slots, in_cell * max(1, 6 // in_cell))} if slots else {}) | {
        f"architecture_{label}": plots.architecture_maps([row for row in rows if row["label"] == label], 1)
        for label in others}


def _point(row: Row, cost: str, metric: str) -> tuple[float, float]:
    return float(row[cost]), float(row[metric])


def _exact(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["exact"] == "1"]


def _by_genotype(rows: Sequence[Row], metric: str) -> dict[str, list[float]]:
    """Scores over seeds: of the chosen genotype, then of the random ones, best first."""
    scores: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        scores.setdefault((row["role"], row["genotype"]), []).append(float(row[metric]))
    order = sorted(scores, key=lambda key: (key[0] != "chosen", -sum(scores[key]) / len(scores[key])))
    return {"chosen" if role == "chosen" else f"random {number}": scores[role, genotype]
            for number, (role, genotype) in enumerate(order)}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
