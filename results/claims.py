"""What a benchmark found, in sentences that claim no more than its tables support, and how it was done."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.files import read_rows
from results.ablation import ablation_rows, groups_of
from results.statistics import COVERAGE, FLIPS, fewest
from results.tables import method_sets

TITLES = {"auc": "AUC", "val_f1": "F1 at the validation threshold"}
SHOWN = 6
"""Sentences on pairs in the headline, for each set of methods; the table of comparisons has all."""
PAIR = {"mean unseen": "methods that neither saw", "mean seen": "methods that both were trained on",
        "mean unknown": "methods that neither is known to have seen"}
ALONE = {"mean unseen": "methods that it never saw", "mean seen": "methods that it was trained on",
         "mean unknown": "methods of which it is not known whether it saw them"}
EACH = {"mean unseen": "methods that they never saw", "mean seen": "methods that they were trained on",
        "mean unknown": "methods that they are not known to have seen"}

Row = Mapping[str, str]


def headline(folder: Path) -> list[str]:
    """The findings of the results `folder`, for the first perturbation, AUC, and each set of methods, unseen first: the
    detector with the highest mean among those that failed nowhere, how each other compares with it (claims first), or
    why nothing can be claimed. Where detectors have means over different methods none is the highest. Empty where there
    is no summary."""
    summary, comparisons = (read_rows(folder / f"{name}.csv") for name in ("summary", "comparisons"))
    if not summary:
        return []
    first = summary[0]["perturbation"]
    place = folder / "benchmark.json"
    about = json.loads(place.read_text()) if place.exists() else {}
    sentences = _trainings([row for row in summary if row["perturbation"] == first], about)
    for methods in PAIR:
        sentences += _ablated([row for row in comparisons if (row["perturbation"], row["methods"], row["metric"]) ==
                               (first, methods, "auc")], groups_of(about))
    for methods in PAIR:
        rows = [row for row in summary if (row["perturbation"], row["method"]) == (first, methods) and row["auc"]]
        if not rows:
            continue
        pairs = [row for row in comparisons if (row["perturbation"], row["methods"], row["metric"]) ==
                 (first, methods, "auc")]
        alike = _alike(summary, methods)
        if not alike:
            sentences += [f"Detectors differ in the {EACH[methods]}: means over different methods are not compared, "
                          "only pairs on what they have in common.", *_pairs("", pairs)]
            continue
        own = [row for row in rows if row["detector"] in alike]
        sound = [row for row in own if not _failures(row)] if len(own) > 1 else own
        leader = max(sound, key=lambda row: float(row["auc"]), default=None)
        sentences += [_lead(leader, len(sound), len(own), len(own) < len(rows))] if leader else []
        sentences += [*_pairs(leader["detector"] if leader else "", pairs), *_failing(rows)]
    sentences += _alarms([row for row in summary if row["perturbation"] == first])
    if any(row.get("seeds") == "1" for row in summary) and comparisons:
        sentences.append("Detectors with one training seed are compared as they are: what another training would "
                         "change is not in their intervals.")
    return list(dict.fromkeys(sentences))


def _trainings(summary: Sequence[Row], about: Mapping[str, Any]) -> list[str]:
    """What a protocol that trains asks, for each network: how it generalizes from each group of methods, or how much is
    lost on what is left out. Differences are told, not claimed: pairs below have their tests."""
    cells = {(row["detector"], row["method"]): row for row in summary if row["auc"]}
    trained: dict[str, dict[str, tuple[str, Sequence[str]]]] = {}
    for name, entries in about.get("detectors", {}).items():
        known = entries[0]["trained_on"] if entries else {}
        if known.get("trainee") and known.get("group"):
            trained.setdefault(known["trainee"], {})[known["group"]] = name, known["methods"] or ()
    sentences = []
    for trainee, groups in trained.items():
        told = []
        if about.get("protocol") == "matrix":
            told = [f"{group} {_mean(cells[name, 'mean unseen'])}" for group, (name, _) in groups.items()
                    if (name, "mean unseen") in cells]
            text = f"{trainee}, trained on each alone, has a mean AUC on the methods that it did not see of: "
        elif "all" in groups:
            whole = groups["all"][0]
            told = [f"{method} {_mean(cells[name, method])} against {float(cells[whole, method]['auc']):.3f}"
                    for name, methods in groups.values() for method in groups["all"][1]
                    if method not in methods and {(name, method), (whole, method)} <= cells.keys()]
            text = f"{trainee}, AUC on a method left out of training, against that of training on all: "
        if told:
            sentences.append(f"{text}{'; '.join(told)}.")
    return sentences


def _ablated(pairs: Sequence[Row], groups: Mapping[str, str]) -> list[str]:
    """What can be claimed of an ablation's variants, in one sentence; `groups` are the variants by detector."""
    rows = list(ablation_rows(pairs, groups))
    if not rows:
        return []
    told = [f"{row['variant']} {float(row['difference']):+.3f} [{float(row['low']):+.3f}, {float(row['high']):+.3f}], "
            f"{_chance(float(row['p_corrected']))}" for row in rows if row["claim"]]
    where = f"on {PAIR[rows[0]['methods']]}"
    corrected = f"corrected for {_number(rows[0]['comparisons'], 'comparison')}"
    if not told:
        return [f"No variant can be told from the full network {where}, {corrected}."]
    others = f"; {len(rows) - len(told)} of {len(rows)} variants cannot be told from it" * (len(told) < len(rows))
    return [f"AUC of variants less that of the full network {where}, {corrected}: {'; '.join(told)}{others}."]


def _alarms(summary: Sequence[Row]) -> list[str]:
    """What is flagged where nothing was painted."""
    rows = [row for row in summary if row["method"] == "authentic" and row.get("false_alarm")]
    told = [f"{row['detector']} {float(row['false_alarm']):.1%}" for row in
            sorted(rows, key=lambda row: float(row["false_alarm"]))[:SHOWN]]
    return [f"Of the area of {_number(rows[0]['count'], 'authentic picture')}, detectors flag at 0.5: {', '.join(told)}"
            f"{', the others more' * (len(rows) > SHOWN)}."] if rows else []


def _mean(row: Row) -> str:
    return f"{float(row['auc']):.3f}" + (f" [{float(row['auc_low']):.3f}, {float(row['auc_high']):.3f}]"
                                         if row["auc_low"] else "")


def claim(row: Row) -> str:
    """A row of `comparisons.csv` with its evidence, such as "A beats B on methods that neither saw: AUC 0.912 against
    0.871, difference +0.041 [+0.020, +0.061], p = 0.004 corrected for 10 comparisons, 420 pictures of 42 photographs,
    better on 80 % of them."; the better one comes first."""
    first, second, difference = row["first"], row["second"], float(row["difference"])
    low, high, better = (float(row[key] or "nan") for key in ("low", "high", "effect"))
    means = float(row["first_mean"]), float(row["second_mean"])
    if difference < 0:
        first, second, means = second, first, (means[1], means[0])
        difference, low, high, better = -difference, -high, -low, 1 - better
    verdict = f"{first} beats {second}" if row["claim"] else f"{first} is not distinguishable from {second}"
    lost = int(row.get("lost") or 0)
    missing = f"; {_number(lost, 'pair')} left out for want of a number" if lost else ""
    interval = f" [{low:+.3f}, {high:+.3f}]" if row["low"] else ""
    return (f"{verdict} on {PAIR[row['methods']]}: {TITLES.get(row['metric'], row['metric'])} {means[0]:.3f} against "
            f"{means[1]:.3f}, difference {difference:+.3f}{interval}, "
            f"{_chance(float(row['p_corrected']))} corrected for {_number(row['comparisons'], 'comparison')}, "
            f"{_number(row['count'], 'picture')} of {_number(row['sources'], 'photograph')}, better on "
            f"{100 * better:.0f} % of them{missing}.")


def methods_section(config: Mapping[str, Any], about: Mapping[str, Any], folder: Path) -> str:
    """Data, protocol, metrics, statistics and software of a benchmark as text for a paper, paragraph by paragraph.

    `config` is the run's resolved configuration, `about` its `benchmark.json`, `folder` the results folder with
    `summary.csv`, `thresholds.csv`, `comparisons.csv`. Every number comes from these; what they do not hold is left
    out. Empty without a summary.
    """
    summary, thresholds, comparisons, power = (read_rows(folder / f"{name}.csv") for name in
                                               ("summary", "thresholds", "comparisons", "power"))
    if not summary:
        return ""
    settings, forging = config.get("benchmark", {}), config.get("forgeries", {})
    parts = [_data(summary, settings, forging), _detectors(about, summary), _metrics(thresholds, about),
             _statistics(settings, summary, comparisons, power), _software(config, about)]
    return "\n\n".join(part for part in parts if part)


def _alike(summary: Sequence[Row], mean: str) -> set[str]:
    """Detectors that have the `mean` over one set of methods: all, or all but those that saw nothing of the test, for
    which more methods are unseen. Empty where there are several such sets."""
    sets = method_sets(summary, mean)
    saw = {row["detector"] for row in summary if row["seen"] == "seen"}
    chosen = set(sets) if len(set(sets.values())) == 1 else set(sets) & saw
    return chosen if len({sets[name] for name in chosen}) == 1 else set()


def _lead(leader: Row, count: int, every: int, some: bool) -> str:
    """`count` detectors were ranked, of `every` one with these methods; `some` have others."""
    methods = leader["method"]
    among = f"the highest of {count} detectors" if count > 1 else "the only detector"
    if some:
        among += " that were trained on the same methods" if count > 1 else " that was trained on methods of this test"
    among += " that failed on no picture" if count < every else " there" if every == 1 and not some else ""
    interval = f" [{float(leader['auc_low']):.3f}, {float(leader['auc_high']):.3f}]" if leader["auc_low"] else ""
    chance = "; its interval does not exclude chance, 0.5" if interval and float(leader["auc_low"]) <= 0.5 else ""
    return (f"On {ALONE[methods]}, {leader['detector']} has a mean AUC of {float(leader['auc']):.3f}{interval}, "
            f"{among}, over {_number(leader['count'], 'picture')} of {_number(leader['sources'], 'photograph')}"
            f"{chance}.")


def _failures(row: Row) -> int:
    return int(row.get("failures") or 0)


def _failing(rows: Sequence[Row]) -> list[str]:
    """A sentence on the detectors that failed somewhere."""
    found = [f"{row['detector']} ({_number(_failures(row), 'failure')}; the others have a mean AUC of "
             f"{float(row['auc']):.3f})" for row in rows if _failures(row)]
    return [f"On {ALONE[rows[0]['method']]}, maps are missing of {_list(found)}. Such a mean is over fewer pictures, "
            "perhaps easier ones, and is not ranked."] if found else []


def _pairs(leader: str, pairs: Sequence[Row]) -> list[str]:
    """Sentences on the leader's pairs, on all where nobody leads, or one that says why there are none."""
    if not pairs:
        return []
    sources, count = (max(int(row[key]) for row in pairs) for key in ("sources", "comparisons"))
    if sources < (least := fewest(count)):
        return [f"Too few photographs for any claim that one detector beats another: {sources}, and with fewer than "
                f"{least} no test can tell, corrected for {_number(count, 'comparison')}."]
    own = sorted((row for row in pairs if not leader or leader in (row["first"], row["second"])),
                 key=lambda row: (not row["claim"], -abs(float(row["difference"]))))
    told = sum(bool(row["claim"]) for row in pairs)
    rest = [f"Of {len(pairs)} pairs of detectors there, {told} can be told apart."] if len(pairs) > 1 else []
    return [*(claim(row) for row in own[:SHOWN]), *rest]


def _data(summary: Sequence[Row], settings: Mapping[str, Any], forging: Mapping[str, Any]) -> str:
    single = [row for row in summary if not row["method"].startswith("mean ")]
    forged = [row for row in single if row.get("kind") != "authentic"]
    kinds: dict[str, list[str]] = {}
    for row in forged:
        names = kinds.setdefault(row.get("kind") or "unknown", [])
        if row["method"] not in names:
            names.append(row["method"])
    methods = _list(f"{kind} ({', '.join(names)})" for kind, names in kinds.items())
    first = [row for row in forged if row["perturbation"] == summary[0]["perturbation"]]
    sizes = {(int(row["count"]) + int(row["undefined"]), int(row["sources"])) for row in first}
    texts = [f"Detectors were tested on {methods} inpainting: {_range(size for size, _ in sizes)} pictures a method, "
             f"from {_range(source for _, source in sizes)} photographs" if forged
             else "Detectors were tested on pictures that nothing was painted into"]
    if settings.get("data"):
        texts.append(f", read from an existing dataset ({Path(settings['data']).name}) with its own masks.")
    else:
        fraction = forging.get("mask_fraction")
        texts.append(", none of which is among the training or validation photographs that a detector's provenance "
                     "lists, except as named below. The same photographs, crops and masks were used for all methods"
                     + (f"; masks cover between {fraction[0]:.3g} and {fraction[1]:.3g} of a picture." if fraction
                        else "."))
    authentic = [row for row in single if row.get("kind") == "authentic"]
    if authentic:
        texts.append(f" {authentic[0]['count']} authentic pictures measure false alarms.")
    perturbations = [name for name in dict.fromkeys(row["perturbation"] for row in summary) if name != "none"]
    if perturbations:
        texts.append(f" Pictures were also scored after: {', '.join(perturbations)}.")
    return "".join(texts)


def _detectors(about: Mapping[str, Any], summary: Sequence[Row]) -> str:
    described = []
    for name, entries in about.get("detectors", {}).items():
        trained, facts = entries[0].get("trained_on") or {}, []
        if entries[0].get("parameters"):
            facts.append(f"{entries[0]['parameters']:,} parameters")
        if trained.get("methods"):
            facts.append(f"trained on {', '.join(trained['methods'])}")
        elif trained.get("methods") is None:
            facts.append("training methods not known")
        else:
            facts.append("not trained")
        if trained.get("photographs"):
            facts.append(_number(trained["photographs"], "photograph"))
        if len(entries) > 1:
            facts.append(f"{len(entries)} training seeds")
        described.append(f"{name} ({'; '.join(facts)})")
    labels = {row["seen"] for row in summary}
    text = f"Protocol: {about['protocol']}. " if about.get("protocol") else ""
    text += f"Detectors: {_list(described)}. " if described else ""
    text += ("Whether a method was seen in training comes from the provenance that each checkpoint carries"
             + (", and is unknown where there is none" if "unknown" in labels else "") + ".")
    overridden = [f"{guard['detector']}: {guard['what']}".removeprefix(": ") for guard in about.get("guards", ())
                  if guard.get("allowed") and guard["guard"] not in ("seen-methods", "seen-perturbations")]
    return text + (f" Departures from the protocol: {'; '.join(overridden)}." if overridden else "")


def _metrics(thresholds: Sequence[Row], about: Mapping[str, Any]) -> str:
    text = ("Maps were scored at the size of the picture. AUC, average precision, F1, IoU and MCC are of the pixels of "
            "one picture, averaged over pictures; a picture that several methods painted into counts once, with its "
            "mean. F1, IoU and MCC are at the threshold 0.5; at each map's own best threshold they are an oracle")
    chosen = [row for row in thresholds if row["threshold"]]
    if chosen:
        text += (f"; at a threshold chosen on {_range(int(row['pictures']) for row in chosen)} forged validation "
                 "pictures a detector, of the methods that it was trained on where these are known, they are given "
                 "apart")
    text += ". A metric that has no meaning for a picture, such as AUC of an authentic one, is left out and counted."
    return text + (f" The score of a picture is pooled from its map by {about['pooling']}." if about.get("pooling")
                   else "")


def _statistics(settings: Mapping[str, Any], summary: Sequence[Row], comparisons: Sequence[Row],
                power: Sequence[Row]) -> str:
    resamples = f"{settings['bootstrap']:,} " if settings.get("bootstrap") else ""
    text = (f"Intervals are {100 * COVERAGE:.0f} % bootstrap intervals from {resamples}resamples in two stages, "
            "photographs and then pictures of each, because pictures of one photograph are dependent (Davison and "
            "Hinkley 1997); percentiles are expanded for few photographs (Hesterberg 2015)")
    if any(int(row.get("seeds") or 1) > 1 for row in summary):
        text += "; where a detector has several training seeds these are resampled too (Owen 2007)"
    text += ". "
    if not comparisons:
        return text.rstrip()
    families = dict.fromkeys(int(row["comparisons"]) for row in comparisons)
    text += ("Pairs of detectors were compared by the mean difference over the pictures that both scored, with a "
             "two-sided sign-flip test whose units are photographs (all flips of few photographs, otherwise "
             f"{FLIPS:,} random ones), corrected by Holm's method over the {_range(families)} "
             f"pair{'s' * (list(families) != [1])} of each table; "
             "the effect size is the share of photographs on which one is better. One detector is said to beat another "
             "where corrected p < 0.05 and the interval of the difference excludes 0. Average ranks over photographs "
             "come with Friedman's test and Nemenyi's critical difference (Demšar 2006).")
    smallest = [float(row["smallest"]) for row in power if row["smallest"]
                and row["perturbation"] == summary[0]["perturbation"] and row["metric"] == "auc"]
    if smallest:
        text += (" With these photographs, the smallest difference in AUC that is found with 80 % power after "
                 f"correction for all pairs is {_span(smallest)}, depending on the pair.")
    return text


def _software(config: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
    revision = f"revision {about['git_revision']}" if about.get("git_revision") else ""
    seed = f"seed {config['seed']}" if "seed" in config else ""
    facts = "; ".join(part for part in (revision, versions, seed) if part)
    return f"Software: giidnet, {facts}." if facts else ""


def _chance(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _number(count: int | str, noun: str) -> str:
    return f"{int(count):,} {noun}{'s' * (int(count) != 1)}"


def _range(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"


def _list(names: Iterable[str]) -> str:
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last
