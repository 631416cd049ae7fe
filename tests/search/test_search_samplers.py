"""What is proposed next: functions of the scores so far, within the limits, never twice; against textbook forms."""

from collections import deque
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from scipy.stats import chisquare

from configs.errors import UserError
from configs.files import read_rows, write_rows
from configs.schema import Evolution, Limits, Photos, Racing, RunConfig, Search
from configs.streams import stream
from forgeries.photos import find_photos
from search import stage
from search.evolution import RegularisedEvolution
from search.one_shot import OneShot
from search.optuna_samplers import Nsga2, Tpe
from search.random_search import RandomSearch
from search.samplers import crossed, mutated, pareto_front, random_samples, with_one_changed, within_limits
from search.stage import make_strategy
from search.strategy import Scored, SearchContext
from search_space.cost import Cost, CostTable
from search_space.genotype import Genotype, SpaceShape, random_genotype

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
OPERATIONS = ("sep3", "relu_sep3", "relu_sep5", "identity")
SPACE = SpaceShape(OPERATIONS, 2, (16, 16, 16), (2, 1, 1), (1, 1, 1), ("plain", "plain+bayar"), ("none", "local"))
SMALL = SpaceShape(("sep3", "identity"), 2, (16, 16), (1, 1), (1, 1))
WORTH = {"relu_sep5": 0.06, "sep3": 0.03, "plain+bayar": 0.02, "local": 0.02}
STRATEGIES = {"one-shot": {}, "one-shot evolved": {"sampler": "evolution"}, "evolution": {}, "tpe": {}, "nsga2": {}}


def table(space):
    """What has more parameters has more FLOPs, but for the first slot, where it has less; no latencies."""
    price = {"sep3": 40, "relu_sep3": 30, "relu_sep5": 70, "identity": 0, "plain": 3, "plain+bayar": 8, "none": 0,
             "local": 5}
    def cost(label, name):
        return Cost(price[name], 100 * (80 - price[name] if label == "cell1_slot1" else price[name]))

    return CostTable(Cost(1000, 5000), {label: {name: cost(label, name) for name in options}
                                        for label, options in space.options().items()})


def context(space=SPACE, seed=5, **settings):
    return SearchContext(None, None, space, Search(**settings), seed, table(space), None)


def make(name, space=SPACE, seed=5, **settings):
    """A strategy that has no network: proposals need none."""
    strategy = make_strategy(name.split()[0])
    strategy.context = context(space, seed, **STRATEGIES[name], **settings)
    return strategy


def worth(genotype):
    """A score with a known best and no ties worth naming."""
    names = list(genotype.sample().values())
    return 0.5 + sum(WORTH.get(name, 0) * (1 + index / 100) for index, name in enumerate(names))


def scored(genotype, costs, score=None, pictures=10, exact=True):
    score = worth(genotype) if score is None else score
    return Scored(genotype, score, score, score / 2, pictures, exact, costs.of(genotype))


def search(strategy, history=()):
    """All batches of a search, as the stage asks for them, from `history` on."""
    history, batches = list(history), []
    while proposals := strategy.propose(history):
        batches.append(proposals)
        history += [scored(genotype, strategy.context.costs) for genotype in proposals]
    return history, batches


@pytest.mark.parametrize("name", STRATEGIES)
def test_candidates_are_new_allowed_as_many_as_asked_for_and_the_same_again_from_any_point(name):
    settings = {"candidates": 47, "evolution": Evolution(population=10, sample=3), "limits": Limits(params=1250)}
    history, batches = search(make(name, **settings))
    texts = [str(entry.genotype) for entry in history]
    assert len(texts) == len(set(texts)) == 47 and all(entry.cost.params <= 1250 for entry in history)
    sizes = {"one-shot": [47], "one-shot evolved": [10, 10, 10, 10, 7], "evolution": [10] + [2] * 18 + [1],
             "tpe": [10] + [2] * 18 + [1], "nsga2": [10, 10, 10, 10, 7]}[name]
    assert list(map(len, batches)) == sizes
    for done in (sizes[0], sum(sizes[:2])):
        again, _ = search(make(name, **settings), history[:done])
        assert [str(entry.genotype) for entry in again] == texts
    other, _ = search(make(name, seed=6, **settings))
    assert {str(entry.genotype) for entry in other[:5]} != set(texts[:5])


def test_every_strategy_starts_from_the_same_random_candidates():
    settings = {"candidates": 30, "evolution": Evolution(population=8)}
    first = {name: list(map(str, make(name, **settings).propose([])))[:8] for name in STRATEGIES}
    assert len(set(map(tuple, first.values()))) == 1


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "one-shot"])
def test_what_scores_lead_to_beats_random_candidates(name):
    settings = {"candidates": 120, "evolution": Evolution(population=20, sample=5)}
    means = {at: np.mean([np.mean([entry.score for entry in search(make(at, seed=seed, **settings))[0][60:]])
                          for seed in range(3)]) for at in ("one-shot", name)}
    # NSGA-II looks for cheap ones as much as for good ones.
    assert means[name] > means["one-shot"] + (0.01 if name == "nsga2" else 0.03)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("limits, expected", [({}, 16), ({"params": 1080}, 11), ({"params": 1080, "flops": 13000}, 5)])
def test_a_space_that_is_used_up_ends_the_search(name, limits, expected):
    strategy = make(name, SMALL, candidates=50, evolution=Evolution(population=6, sample=2), limits=Limits(**limits))
    everything = [Genotype.from_sample(dict(zip(SMALL.options(), names, strict=True)), SMALL)
                  for names in product(*SMALL.options().values())]
    allowed = {str(genotype) for genotype in everything if strategy.context.allowed(genotype)}
    assert len(allowed) == expected
    history, _ = search(strategy)
    assert {str(entry.genotype) for entry in history} == allowed


def textbook(space, costs, seed, population, sample, total):
    """Real et al. 2019, algorithm 1, as it is printed, with our generators; known genotypes are drawn again."""
    draw = stream(seed, "candidates")
    queue, history = deque(), []
    while len(queue) < population:
        model = random_genotype(space, draw)
        if model not in [entry[0] for entry in history]:
            queue.append((model, worth(model)))
            history.append((model, worth(model)))
    while len(history) < total:
        draw = stream(seed, "candidates", len(history))
        child = None
        while child is None or child in [entry[0] for entry in history]:
            chosen = []
            indices = draw.integers(len(queue), size=sample)
            while len(chosen) < sample:
                chosen.append(queue[indices[len(chosen)]])
            parent, best = chosen[0]
            for model, accuracy in chosen:
                if accuracy > best:
                    parent, best = model, accuracy
            options, genes = space.options(), parent.sample()
            label = str(draw.choice(list(options)))
            genes[label] = str(draw.choice([name for name in options[label] if name != genes[label]]))
            child = Genotype.from_sample(genes, space)
        queue.append((child, worth(child)))
        history.append((child, worth(child)))
        queue.popleft()
    return [str(model) for model, _ in history]


def test_regularised_evolution_one_child_at_a_time_is_the_textbooks():
    strategy = make("evolution", candidates=80, evolution=Evolution(population=9, sample=4))
    history, batches = search(strategy)
    assert set(map(len, batches[1:])) == {1}
    assert [str(entry.genotype) for entry in history] == textbook(SPACE, strategy.context.costs, 5, 9, 4, 80)


def test_the_oldest_die_however_good():
    strategy = make("evolution", candidates=100, evolution=Evolution(population=10, sample=60))
    drawn = random_samples(context(), stream(1, "test"), 20)
    history = [scored(genotype, table(SPACE), score=1 - index / 100) for index, genotype in enumerate(drawn)]
    # A tournament this large has the best living one in it, which is the first of the last ten.
    for child in strategy.propose(history):
        assert distance(child, drawn[10]) == 1


def distance(one, other):
    return sum(name != other.sample()[label] for label, name in one.sample().items())


def test_one_change_changes_one_choice_each_alike():
    parent, generator = random_genotype(SPACE, stream(0, "test")), stream(1, "test")
    counts = dict.fromkeys(SPACE.options(), 0)
    for _ in range(800):
        child = with_one_changed(parent, generator)
        (label,) = [label for label, name in child.sample().items() if name != parent.sample()[label]]
        counts[label] += 1
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_crossover_takes_from_two_parents_and_mutation_changes_by_chance():
    generator = stream(2, "test")
    parents = [Genotype.parse("sep3-sep3|sep3-sep3|sep3-sep3;streams=plain;attention=none", SPACE),
               Genotype.parse("identity-identity|identity-identity|identity-identity;streams=plain+bayar;"
                              "attention=local", SPACE)]
    children = crossed(parents, generator)
    drawn = [next(children).sample() for _ in range(400)]
    names = {"sep3": 0, "plain": 0, "none": 0, "identity": 1, "plain+bayar": 1, "local": 1}
    from_second = np.array([[names[name] for name in sample.values()] for sample in drawn])
    # Half of the pairs are of one parent twice; of the others each choice is either's.
    assert 0.4 < from_second.mean() < 0.6
    assert 0.35 < ((from_second.sum(1) > 0) & (from_second.sum(1) < 8)).mean() < 0.65
    copies = mutated(parents[:1], 0.4, generator)
    changed = np.mean([distance(next(copies), parents[0]) / 8 for _ in range(400)])
    # A choice drawn anew is another in 3 of 4 cases, streams and attention in 1 of 2.
    assert changed == pytest.approx(0.4 * (6 * 3 / 4 + 2 / 2) / 8, abs=0.03)


def test_evolved_one_shot_breeds_from_the_best_of_all_that_raced_to_the_end():
    strategy = make("one-shot evolved", candidates=100,
                    evolution=Evolution(population=20, sample=2, mutation=1e-9))
    costs = strategy.context.costs
    drawn = random_samples(context(), stream(1, "test"), 20)
    # The best scores are of candidates that a race dropped, over its first, easy pictures.
    history = [scored(genotype, costs, score=index / 100, pictures=3 if index >= 15 else 10, exact=index < 15)
               for index, genotype in enumerate(drawn)]
    parents = [drawn[14].sample(), drawn[13].sample()]
    bred = strategy.propose(history)
    assert len(bred) == 20
    # Ten by crossover; mutation this rare gives nothing new, for which random ones stand in.
    for child in bred[:5]:
        assert all(name in (parents[0][label], parents[1][label]) for label, name in child.sample().items())


@pytest.mark.parametrize("name, settings, expected", [
    ("one-shot", {}, 2), ("one-shot evolved", {}, 7), ("evolution", {}, 7), ("tpe", {}, 2), ("nsga2", {}, 0)])
def test_races_keep_as_many_as_are_needed(name, settings, expected):
    strategy = make(name, evolution=Evolution(sample=7), **settings)
    assert strategy.racing(Racing(keep=2)).keep == expected
    assert strategy.racing(Racing(keep=0)).keep == 0


@pytest.mark.parametrize("limits", [{"params": 1036}, {"flops": 9500}, {"params": 1045, "flops": 10900}])
def test_limits_that_a_drawn_genotype_hardly_keeps_are_kept(limits):
    tight = context(limits=Limits(**limits))
    generator = stream(3, "test")
    share = np.mean([tight.allowed(random_genotype(SPACE, generator)) for _ in range(2000)])
    found = random_samples(tight, stream(4, "test"), 4)
    assert share < 0.005 and len(set(map(str, found))) == 4 and all(map(tight.allowed, found))
    fewer = random_samples(tight, stream(4, "test"), 2)
    assert fewer == found[:2]


def test_what_keeps_the_limits_is_not_touched_and_what_does_not_reaches_the_least():
    generator = stream(5, "test")
    least, _ = table(SPACE).range()
    free, tight = context(limits=Limits(params=1300)), context(limits=Limits(params=least.params))
    for _ in range(20):
        genotype = random_genotype(SPACE, generator)
        if free.allowed(genotype):
            assert within_limits(free, genotype, generator) == genotype
        assert tight.costs.of(within_limits(tight, genotype, generator)).params == least.params


@pytest.mark.parametrize("limits, message", [
    ({"params": 1002}, r"search\.limits\.params: 1,002 is less .* 1,003 at least"),
    ({"flops": 5000}, r"search\.limits\.flops: 5,000 .* 6,300 at least"),
    ({"params": 1003, "flops": 6300}, "no genotype was found that keeps all"),
])
def test_limits_that_nothing_keeps_are_told_with_the_least(limits, message):
    with pytest.raises(UserError, match=message):
        random_samples(context(limits=Limits(**limits)), stream(0, "test"), 3)


def test_random_candidates_are_uniform():
    counts = {str(genotype): 0 for genotype in random_samples(context(SMALL), stream(0, "test"), 16)}
    for seed in range(600):
        counts[str(random_samples(context(SMALL), stream(seed, "uniform"), 1)[0])] += 1
    assert chisquare(list(counts.values())).pvalue > 0.001


def live(population, total, seed):
    """NSGA-II asked and told by Optuna itself, its random numbers set anew where ours are."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    space, costs = SPACE, table(SPACE)
    distributions = {label: optuna.distributions.CategoricalDistribution(names)
                     for label, names in space.options().items()}
    drawn = random_samples(context(), stream(seed, "candidates"), population)
    history = [scored(genotype, costs) for genotype in drawn]
    study.add_trials([optuna.trial.create_trial(
        params=entry.genotype.sample(), distributions=distributions, values=[entry.auc, entry.cost.flops],
        system_attrs={"NSGAIISampler:generation": 0}) for entry in history])
    while len(history) < total:
        study.sampler = optuna.samplers.NSGAIISampler(
            population_size=population, seed=int(stream(seed, "candidates", len(history)).integers(2**32)))
        known, pending = {str(entry.genotype) for entry in history}, []
        while len(pending) < population:
            trial = study.ask(distributions)
            genotype = Genotype.from_sample(trial.params, space)
            if str(genotype) not in known:
                known.add(str(genotype))
                pending.append((trial, scored(genotype, costs)))
        for trial, entry in pending:
            study.tell(trial, [entry.auc, entry.cost.flops])
            history.append(entry)
    return [str(entry.genotype) for entry in history]


def test_nsga2_made_anew_each_time_proposes_what_a_living_study_does():
    strategy = make("nsga2", candidates=48, evolution=Evolution(population=8))
    assert [str(entry.genotype) for entry in search(strategy)[0]] == live(8, 48, 5)


def test_pareto_front_is_what_nothing_dominates():
    generator = np.random.default_rng(0)
    genotype = random_genotype(SPACE, generator)
    history = [Scored(genotype, auc, auc, f1, 1, exact, Cost(int(params), int(flops), float(latency)))
               for auc, f1, exact, params, flops, latency in zip(
                   generator.integers(12, size=80) / 12, generator.integers(12, size=80) / 12,
                   generator.random(80) < 0.8, *generator.integers(1, 12, size=(3, 80)), strict=True)]
    for metric, cost in product(("auc", "f1"), ("params", "flops", "latency")):
        field = "latency_ms" if cost == "latency" else cost
        points = {(getattr(entry.cost, field), getattr(entry, metric)) for entry in history if entry.exact}
        expected = sorted(point for point in points if not any(
            other != point and other[0] <= point[0] and other[1] >= point[1] for other in points))
        front = pareto_front(history, metric, cost)
        assert [(getattr(entry.cost, field), getattr(entry, metric)) for entry in front] == expected
        assert all(entry.exact for entry in front)


def test_nsga2_chooses_the_best_score_of_the_front():
    strategy = make("nsga2")
    drawn = random_samples(context(), stream(0, "test"), 3)
    # Scores weigh costs: the best is not the front's end. The first would tie, but the second dominates it.
    history = [Scored(genotype, score, auc, 0.0, 10, True, Cost(1, flops)) for genotype, (score, auc, flops) in zip(
        drawn, ((0.6, 0.7, 20), (0.6, 0.7, 10), (0.5, 0.8, 90)), strict=True)]
    assert strategy.choose(history) == history[1]


def test_tpe_ranks_what_a_race_dropped_below_exact_scores():
    settings = {"candidates": 200, "evolution": Evolution(population=50)}
    drawn, costs = random_samples(context(), stream(0, "test"), 50), table(SPACE)

    def share(dropped):
        """How often children have the operation that only the dropped ones have good scores with."""
        history = [scored(genotype, costs, 0.9 if bad else 0.5 + index / 1000, *((3, False) if bad and dropped else ()))
                   for index, genotype in enumerate(drawn) for bad in [genotype.sample()["cell1_slot1"] == "sep3"]]
        children = make("tpe", **settings).propose(history)
        return np.mean([child.sample()["cell1_slot1"] == "sep3" for child in children])

    assert share(dropped=True) < share(dropped=False)


def test_random_search_keeps_the_limits_and_starts_with_the_same_candidates():
    strategy = RandomSearch()
    limited = context(epochs=2, steps=5, architectures=4, limits=Limits(params=1150))
    network = SimpleNamespace(state_dict=dict, parameters=lambda: [])
    strategy._make_optimizer = lambda: None
    strategy.set_up(replace(limited, network=network))
    one_shot = OneShot()
    one_shot.context = replace(limited, settings=limited.settings.model_copy(update={"candidates": 4}))
    assert strategy.propose([]) == one_shot.propose([]) and len(strategy.propose([])) == 4
    assert all(map(limited.allowed, strategy.propose([])))


def test_subclasses_train_as_one_shot_does():
    for cls in (RegularisedEvolution, Tpe, Nsga2):
        assert cls.step is OneShot.step and cls.set_up is OneShot.set_up and cls.state_dict is OneShot.state_dict


def test_nsga2_on_latency_needs_latencies():
    with pytest.raises(ValueError, match=r"search\.latency=true"):
        Search(strategy="nsga2", objective={"cost": "latency"})
    Search(strategy="nsga2", objective={"cost": "latency"}, latency=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search of a strategy, in its folder."""
    folders = {}

    def finished(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("run")
            stage.run_search(configure(name), folders[name], PHOTOS)
        return folders[name] / "search"
    return finished


def configure(name):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "space": {"cells": 2, "slots": 1, "channels": [64, 128], "strides": [2, 1], "dilations": [1, 1],
                  "width": 0.0625, "streams": [["plain"], ["bayar"]]},
        "search": {"strategy": name.split()[0], "epochs": 1, "steps": 2, "batch_size": 2, "candidates": 14,
                   "validation_images": 4, "recalibration_batches": 1, "evolution": {"population": 5, "sample": 2},
                   "check": {"random": 0}, "limits": {"params": 960}} | STRATEGIES[name]})


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_ends_in_the_same_files_from_any_point_and_with_the_weights_of_one_shot(name, run):
    out = run(name)
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "cost.json"}
    assert files["supernet.safetensors"] == (run("one-shot") / "supernet.safetensors").read_bytes()
    rows = read_rows(out / "candidates.csv")
    assert len(rows) == 14 and max(int(row["params"]) for row in rows) <= 960
    (out / "genotype.yaml").unlink()
    # Killed between two batches, and within one.
    for done in (5, 8):
        write_rows(out / "candidates.csv", stage.CANDIDATES, rows[:done])
        stage.run_search(configure(name), out.parent, PHOTOS)
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.name != "cost.json"} == files
