"""Every search strategy at equal cost on one space: what it finds, trained alone, against genotypes drawn at random.

    python benchmarks/strategies.py --out DIR [--config FILE|PRESET] [--seconds N] [--seeds N] [--strategies A B …]
                                    [section.key=value…]

Equal cost: each strategy trains for so many steps as take `--seconds` here, by the time of some steps of each, all
timed by turns before the first search (`plan.json`). Then every genotype that was found, and `--random` ones drawn
uniformly, are trained alone, alike, with the same seeds (`search.check`), and scored on validation forgeries that no
search saw (`alone.csv`). Started again it goes on; several processes may be given different seeds with `--only`.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.engine import make_fabric
from configs.files import locked, make_folder, write_json
from configs.load import load_config
from configs.schema import RunConfig
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.photos import PhotoSet, find_photos
from giidnet import registries
from search.alone import random_rivals, train_all
from search.network import SearchNetwork, search_costs
from search.stage import make_strategy, run_search, validation_batches
from search.strategy import SearchContext
from search_space.genotype import Genotype, SpaceShape, read_genotype

VARIANTS = {
    "random": ("search.strategy=random",),
    "one-shot": ("search.strategy=one-shot",),
    "one-shot, fair": ("search.strategy=one-shot", "search.paths=fair"),
    "one-shot, evolution": ("search.strategy=one-shot", "search.sampler=evolution"),
    "evolution": ("search.strategy=evolution",),
    "tpe": ("search.strategy=tpe",),
    "nsga2": ("search.strategy=nsga2",),
    "darts": ("search.strategy=darts",),
    "darts, second order": ("search.strategy=darts", "search.differentiable.order=2"),
    "gumbel": ("search.strategy=gumbel",),
    "nni:DARTS": ("search.strategy=nni:DARTS",),
    "nni:GumbelDARTS": ("search.strategy=nni:GumbelDARTS",),
}
TRAINED_AS = dict.fromkeys(("one-shot, evolution", "evolution", "tpe", "nsga2"), "one-shot") | {
    "nni:DARTS": "darts", "nni:GumbelDARTS": "gumbel"}
"""Variants whose training is that of another: they get its steps. NNI's are oracles of ours."""

TIMED = 8
"""Steps that are timed, after as many that are not."""


def configure(arguments: argparse.Namespace, variant: str, *more: str) -> RunConfig:
    """The configuration of a variant; the comparison is made here, not in each search."""
    return load_config(arguments.config, [*arguments.overrides, *VARIANTS[variant], "search.check.random=0", *more],
                       registries())


def make_context(config: RunConfig) -> SearchContext:
    """As for a search, with a new network and no pictures to score on."""
    fabric, space, settings = make_fabric(config), SpaceShape.of(config.space), config.search
    network = SearchNetwork(space, config.space.width, settings.streams).to(fabric.device)
    costs = search_costs(space, config.space.width, settings.streams, config.forgeries.image_size)
    return SearchContext(fabric, network, space, settings, config.seed, costs, lambda genotype: np.zeros((1, 2)))


def seconds_a_step(configs: Mapping[str, RunConfig], photos: PhotoSet) -> dict[str, float]:
    """Least seconds of a training step of each configured strategy, without the making of its pictures; they take
    turns, so that another load on the machine falls on all."""
    strategies, contexts = {}, {name: make_context(config) for name, config in configs.items()}
    for name, config in configs.items():
        strategies[name] = make_strategy(config.search.strategy)
        strategies[name].set_up(contexts[name])
    config, device = next(iter(configs.values())), next(iter(contexts.values())).fabric.device
    dataset = ForgeryDataset(photos.train, Recipe.of(config), 0, "timing", config.search.batch_size * 4)
    batches = [(images.to(device), masks.to(device))
               for images, masks in make_loader(dataset, config.search.batch_size, 0)]
    times: dict[str, list[float]] = {name: [] for name in configs}
    for number in range(2 * TIMED):
        train, held_out = batches[number % 4], batches[(number + 1) % 4]
        for name, strategy in strategies.items():
            started = time.perf_counter()
            strategy.step(number, train, held_out if strategy.uses_validation else None)
            times[name].append(time.perf_counter() - started)
    return {name: min(found[TIMED:]) for name, found in times.items()}


def make_plan(arguments: argparse.Namespace, photos: PhotoSet) -> dict[str, int]:
    """Steps of an epoch of each variant's search, written once."""
    path = arguments.out / "plan.json"
    with locked(arguments.out):
        if not path.exists():
            trained_as = {name: TRAINED_AS.get(name, name) for name in arguments.strategies}
            rates = seconds_a_step({name: configure(arguments, name) for name in dict.fromkeys(trained_as.values())},
                                   photos)
            for name, rate in rates.items():
                print(f"{name}: {1000 * rate:.1f} ms a step", file=sys.stderr)
            epochs = configure(arguments, "one-shot").search.epochs
            write_json(path, {name: max(1, round(arguments.seconds / rates[kind] / epochs))
                              for name, kind in trained_as.items()})
    return json.loads(path.read_text())


def compare(arguments: argparse.Namespace, found: dict[tuple[str, int], Genotype], photos: PhotoSet) -> None:
    """Trains everything alone and prints the table."""
    config = configure(arguments, "one-shot")
    context = make_context(config)
    fabric, rivals = context.fabric, random_rivals(context, arguments.random)
    distinct = list({str(genotype): ("", genotype) for genotype in [*rivals, *found.values()]}.values())
    rows = train_all(config, config.search.check, distinct, config.search.check.seeds, photos, fabric,
                     validation_batches(config, photos, fabric.device, "alone-score"), arguments.out / "alone.csv",
                     "train alone")
    alone = {str(genotype): float(np.mean([float(row["auc"]) for row in rows if row["genotype"] == str(genotype)]))
             for _, genotype in distinct}
    random = [alone[str(rival)] for rival in rivals]
    print(f"\n{len(rivals)} random genotypes: AUC {np.mean(random):.4f}, sd {np.std(random, ddof=1):.4f}, best "
          f"{max(random):.4f}; {config.search.check.seeds} seeds each\n")
    print(f"{'strategy':22}{'AUC alone':>10}{'over random genotypes':>32}{'rank':>12}{'train s':>9}{'score s':>9}")
    for variant in arguments.strategies:
        seeds = [seed for name, seed in found if name == variant]
        scores = [alone[str(found[variant, seed])] for seed in seeds]
        costs = [json.loads((place(arguments, variant, seed) / "search" / "cost.json").read_text()) for seed in seeds]
        if len(scores) < 2:
            continue
        difference = stats.ttest_ind(scores, random, equal_var=False)
        low, high = difference.confidence_interval()
        rank = np.mean([1 + sum(other > score for other in random) for score in scores])
        print(f"{variant:22}{np.mean(scores):10.4f}{np.mean(scores) - np.mean(random):+12.4f} "
              f"[{low:+.4f}, {high:+.4f}]{rank:7.1f} of {len(random) + 1}"
              f"{np.mean([cost['train_seconds'] for cost in costs]):8.0f}"
              f"{np.mean([cost['score_seconds'] for cost in costs]):9.0f}")


def place(arguments: argparse.Namespace, variant: str, seed: int) -> Path:
    """Folder of a search."""
    return arguments.out / f"{variant.replace(', ', '-').replace(' ', '-').replace(':', '-')}-{seed}"


def main(words: Sequence[str] | None = None) -> None:
    """Searches, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", default="quick")
    parser.add_argument("--seconds", type=float, default=30.0, help="training time of a search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", type=int, nargs="+", help="search with these seeds alone, and print no table")
    parser.add_argument("--random", type=int, default=12, help="genotypes drawn at random")
    parser.add_argument("--strategies", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_intermixed_args(words)
    make_folder(arguments.out)
    config = configure(arguments, "one-shot")
    photos = find_photos(config.photos, config.forgeries.image_size)
    plan = make_plan(arguments, photos)
    found = {}
    for seed in arguments.only or range(arguments.seeds):
        for variant in arguments.strategies:
            folder = place(arguments, variant, seed)
            path = folder / "search" / "genotype.yaml"
            if not path.exists():
                with locked(make_folder(folder)):
                    print(f"── {variant}, seed {seed}", file=sys.stderr)
                    run_search(configure(arguments, variant, f"seed={seed}", f"search.steps={plan[variant]}"), folder,
                               photos)
            found[variant, seed] = read_genotype(path)
    if not arguments.only:
        compare(arguments, found, photos)


if __name__ == "__main__":
    main()
