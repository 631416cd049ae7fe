"""Figures of trust against counting by hand, and how often they claim what is not so."""

import math

import numpy as np
import pytest
from scipy import stats

from configs.streams import stream
from results.ranking import (
    against_random,
    kendall_tau,
    noise_floor,
    ranking_over_epochs,
    resampled_ranks,
    spearman_rho,
    study_ranks,
)

TIED = (np.array([3.0, 1, 2, 2, 5, 4, 2]), np.array([1.0, 1, 4, 2, 5, 5, 2]))


def count_pairs(first, second):
    """τ-b by its definition (Kendall 1945)."""
    agree = differ = only_first = only_second = 0
    for i in range(len(first)):
        for j in range(i):
            a, b = first[i] - first[j], second[i] - second[j]
            agree += a * b > 0
            differ += a * b < 0
            only_first += a != 0 and b == 0
            only_second += a == 0 and b != 0
    return (agree - differ) / math.sqrt((agree + differ + only_first) * (agree + differ + only_second))


def mid_ranks(values):
    return [sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
            for value in values]


@pytest.mark.parametrize("pair", [TIED, tuple(stream(0, "pairs").random((2, 9)))], ids=["tied", "distinct"])
def test_correlations_of_ranks_are_those_counted_by_hand(pair):
    assert kendall_tau(*pair) == pytest.approx(count_pairs(*pair), abs=1e-12)
    assert spearman_rho(*pair) == pytest.approx(np.corrcoef(*map(mid_ranks, pair))[0, 1], abs=1e-12)


def test_resamples_are_scored_as_if_written_out():
    weights = stream(0, "weights").multinomial(7, np.full(7, 1 / 7), 30).astype(float)
    for weight, tau, rho in zip(weights, *resampled_ranks(*TIED, weights), strict=True):
        drawn = [np.repeat(scores, weight.astype(int)) for scores in TIED]
        assert tau == pytest.approx(stats.kendalltau(*drawn).statistic, abs=1e-12)
        assert rho == pytest.approx(stats.spearmanr(*drawn).statistic, abs=1e-12)


def test_equal_scores_have_no_rank():
    same, other = np.ones(5), np.arange(5.0)
    assert math.isnan(kendall_tau(same, other)) and math.isnan(spearman_rho(other, same))
    found = study_ranks(same, np.stack([other, other], 1), 100, stream(0, "b"))
    assert math.isnan(found.kendall_tau.low) and "undefined" in found.text
    # Any is the best of them.
    assert found.regret == found.random_regret and found.gain.value == 0


def test_noise_is_taken_apart():
    generator = stream(0, "noise")
    own, seeds = generator.normal(0, 0.03, (3000, 1)), generator.normal(0, 1, 3)
    noise = generator.normal(0, 0.04, (3000, 3))
    found = noise_floor(own + seeds + noise)
    assert found.within_sd == pytest.approx(0.04, rel=0.03) and found.between_sd == pytest.approx(0.03, rel=0.05)
    assert found.reliability == pytest.approx(0.03**2 / (0.03**2 + 0.04**2 / 3), rel=0.05)
    reached = kendall_tau(own[:, 0], (own + noise).mean(1))
    assert found.attainable_tau == pytest.approx(reached, abs=0.02)
    pure = noise_floor(generator.normal(size=(3000, 2)))
    assert pure.reliability < 0.1 and pure.attainable_tau < 0.2


def test_regret_is_what_another_choice_would_have_gained():
    alone = np.array([[0.8, 0.9], [0.6, 0.6], [0.7, 0.7], [0.5, 0.7]])
    found = study_ranks(np.array([0.3, 0.2, 0.4, 0.1]), alone, 500, stream(0, "b"))
    assert found.regret.value == pytest.approx(0.85 - 0.7) and found.random_regret.value == pytest.approx(0.85 - 0.6875)
    assert found.gain.value == pytest.approx(0.7 - 0.6875)
    assert 0 <= found.regret.low <= found.regret.value <= found.regret.high
    assert (found.architectures, found.seeds) == (4, 2)
    taus = [count_pairs(*alone.T)]
    assert found.agreement.value == pytest.approx(np.mean(taus))
    assert found == study_ranks(np.array([0.3, 0.2, 0.4, 0.1]), alone, 500, stream(0, "b"))


def test_few_that_agree_by_chance_are_not_trusted():
    scores = np.arange(4.0)
    found = study_ranks(scores, np.stack([scores, scores], 1), 200, stream(0, "b"))
    assert found.kendall_tau.low == 1 and found.p == pytest.approx(2 / 24)
    assert "cannot be trusted" in found.text


def simulated(correlation, trials, count, name):
    """Studies of scores that are as correlated, of two seeds that differ by little."""
    for trial in range(trials):
        generator = stream(trial, name)
        own = generator.normal(size=count)
        inherited = correlation * own + math.sqrt(1 - correlation**2) * generator.normal(size=count)
        alone = own[:, None] + 0.01 * generator.normal(size=(count, 2))
        yield study_ranks(inherited, alone, 200, stream(trial, "b"))


def test_intervals_hold_the_true_rank_correlation():
    # Greiner: of normal scores.
    true = 2 / math.pi * math.asin(0.6)
    hits = [found.kendall_tau.low <= true <= found.kendall_tau.high for found in simulated(0.6, 300, 25, "coverage")]
    assert np.mean(hits) > 0.9


@pytest.mark.parametrize("count", [5, 12, 25])
def test_rankings_that_mean_nothing_are_seldom_trusted(count):
    trusted = [found.text for found in simulated(0, 300, count, "null") if "cannot be trusted" not in found.text]
    # 5 % and what 300 trials may be off.
    assert len(trusted) <= 0.08 * 300


def test_rankings_that_mean_something_are_trusted():
    texts = [found.text for found in simulated(0.9, 50, 20, "alternative")]
    assert sum("better than chance" in text for text in texts) >= 45


def rows(scores):
    """Of `alone.csv`: the chosen genotype's scores over seeds first, then those of random ones."""
    return [{"role": "random" if index else "chosen", "genotype": f"g{index}", "seed": str(seed), "auc": str(value),
             "f1": str(1 - value)} for index, values in enumerate(scores) for seed, value in enumerate(values)]


def test_comparison_is_a_regression_on_being_chosen():
    scores = np.array([[0.8, 0.84], [0.7, 0.74], [0.72, 0.7], [0.83, 0.81], [0.69, 0.65]])
    found = against_random(rows(scores))
    oracle = stats.linregress([1, 0, 0, 0, 0], scores.mean(1))
    margin = stats.t(3).isf(0.025) * oracle.stderr
    assert found.difference == pytest.approx(oracle.slope)
    assert (found.low, found.high) == (pytest.approx(oracle.slope - margin), pytest.approx(oracle.slope + margin))
    # 0.82 and 0.82 tie: as good counts against the chosen one for p, and not for its rank.
    assert (found.rank, found.of, found.seeds) == (1, 5, 2) and found.p == pytest.approx(2 / 5)
    assert found.seed_sd == pytest.approx(math.sqrt(np.mean([np.var(pair, ddof=1) for pair in scores])))
    assert not found.better and found.text.startswith("The search found nothing better than random: ")
    other = against_random(rows(scores), "f1")
    assert other.difference == pytest.approx(-found.difference) and other.rank == 4 and "F1" in other.text


def test_comparison_takes_seeds_that_all_have():
    complete = rows([[0.9, 0.92], [0.7, 0.72], [0.6, 0.62]])
    more = [*complete, {"role": "chosen", "genotype": "g0", "seed": "2", "auc": "0", "f1": "0"}]
    assert against_random(more) == against_random(complete)
    assert against_random(complete[:2]) is None and against_random(complete[2:]) is None and against_random([]) is None
    assert against_random([complete[0], complete[3]]) is None


def test_one_random_genotype_gives_no_interval_and_no_claim():
    found = against_random(rows([[0.9, 0.9], [0.1, 0.1]]))
    assert math.isnan(found.low) and not found.better and "no interval" in found.text


def draw(trial, advantage, rivals, seeds):
    """Genotypes vary as much as seeds do; the chosen one is a random one, and better by `advantage`."""
    generator = stream(trial, "comparison")
    scores = generator.normal(size=(1 + rivals, 1)) + generator.normal(size=(1 + rivals, seeds)) \
        + generator.normal(size=seeds)
    scores[0] += advantage
    return against_random(rows(scores))


@pytest.mark.parametrize("rivals, seeds", [(2, 2), (4, 2), (8, 3)])
def test_a_search_that_draws_at_random_seldom_beats_random(rivals, seeds):
    better = [draw(trial, 0, rivals, seeds).better for trial in range(1500)]
    assert 0.01 < np.mean(better) < 0.04


def test_a_search_that_finds_something_beats_random():
    found = [draw(trial, 5, 8, 3) for trial in range(100)]
    assert np.mean([one.better for one in found]) > 0.85
    assert all(one.text.startswith("The search beat random: ") for one in found if one.better)
    assert np.mean([one.low <= 5 <= one.high for one in found]) > 0.9


def test_rankings_after_epochs_are_compared_with_the_last_and_the_one_before():
    scores = {1: (1, 2, 3), 2: (3, 2, 1), 10: (3, 1, 2)}
    table = [{"epoch": str(epoch), "genotype": name, "auc": str(value)} for epoch, values in scores.items()
             for name, value in zip("abc", values, strict=True)]
    found = ranking_over_epochs(table)
    assert [one.epoch for one in found] == [1, 2, 10]
    assert [one.to_last for one in found] == pytest.approx([-1 / 3, 1 / 3, 1])
    assert math.isnan(found[0].to_previous)
    assert [one.to_previous for one in found[1:]] == pytest.approx([-1, 1 / 3])
    assert ranking_over_epochs([]) == []
