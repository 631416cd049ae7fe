"""Tests, ranks, components and power against published tables, plain formulations and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import bootstrap_interval, bootstrap_weights
from scipy import stats

from configs.streams import stream
from results import statistics
from results.statistics import (
    across_seeds,
    bootstrap_means,
    critical_difference,
    fewest,
    friedman,
    holm,
    limits,
    sign_flip,
    smallest_difference,
    source_sd,
    sources_needed,
    superiority,
    variance_components,
)


def nested(generator, sources, pictures, between=0.05, within=0.05, mean=0.0):
    """Values and sources of `pictures` pictures each of `sources` photographs."""
    groups = np.repeat(np.arange(sources), pictures)
    return mean + between * generator.normal(size=sources)[groups] + within * generator.normal(size=groups.size), groups


@pytest.mark.parametrize("block", [100, 2**22])
def test_means_are_those_of_the_weights_whatever_fits_in_memory(monkeypatch, block):
    monkeypatch.setattr(statistics, "BLOCK", block)
    values = stream(0, "v").random((30, 3))
    values[::4, 1] = values[:20, 2] = np.nan
    groups = np.arange(30) % 7
    weights = bootstrap_weights([str(group) for group in groups], 50, stream(1, "b")).astype(float)
    found = bootstrap_means(values, groups, 50, stream(1, "b"))
    for column in range(3):
        known = ~np.isnan(values[:, column])
        totals = weights[:, known].sum(1)
        plain = np.divide(weights[:, known] @ values[known, column], totals, where=totals > 0,
                          out=np.full(50, np.nan))
        np.testing.assert_allclose(found[:, column], plain, rtol=1e-6)


@pytest.mark.parametrize(("sources", "pictures", "least", "most"), [(5, 1, 0.9, 0.99), (10, 3, 0.92, 1.0),
                                                                    (30, 3, 0.92, 0.99)])
def test_interval_covers_the_mean_where_pictures_are_dependent(sources, pictures, least, most):
    hits = 0
    for trial in range(250):
        values, groups = nested(stream(trial, "cover", sources), sources, pictures)
        found = bootstrap_interval(values, [str(group) for group in groups], 300, stream(trial, "b"))
        hits += found.low <= 0 <= found.high
    assert least <= hits / 250 <= most


@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_of_several_seeds_covers_the_mean_over_seeds_and_pictures(seeds):
    hits = pictures_alone = 0
    for trial in range(200):
        generator = stream(trial, "seeds", seeds)
        values, groups = nested(generator, 20, 3)
        values = values[:, None] + 0.03 * generator.normal(size=seeds)
        means = bootstrap_means(values, groups, 300, stream(trial, "b"))
        low, high = limits(across_seeds(means, stream(trial, "s"))[:, None], 20, 60)[:, 0]
        hits += low <= 0 <= high
        low, high = limits(means.mean(1)[:, None], 20, 60)[:, 0]
        pictures_alone += low <= 0 <= high
    assert hits / 200 >= 0.88
    assert pictures_alone < hits


def test_seeds_widen_by_their_own_variance():
    generator = stream(0, "w")
    values = np.array([0.0, 0.1, 0.5])
    spread = across_seeds(np.tile(values, (200_000, 1)), generator)
    assert spread.mean() == pytest.approx(values.mean(), abs=1e-3)
    assert spread.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)


def test_one_seed_changes_nothing_and_a_missing_one_is_left_out():
    means = stream(0, "m").random((50, 1))
    np.testing.assert_array_equal(across_seeds(means, stream(0, "s")), means[:, 0])
    gone = np.full((50, 2), np.nan)
    assert np.isnan(across_seeds(gone, stream(0, "s"))).all()


def flips_by_hand(sums):
    observed = abs(sum(sums))
    found = [abs(sum(sign * value for sign, value in zip(signs, sums, strict=True))) >= observed - 1e-12
             for signs in itertools.product((1, -1), repeat=len(sums))]
    return sum(found) / len(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_few_sources_are_enumerated(sums):
    found = sign_flip(np.array(sums, float)[:, None], stream(0, "f"))
    assert found[0] == pytest.approx(flips_by_hand(sums))


def test_random_flips_estimate_the_exact_p_and_are_never_zero():
    sums = stream(0, "sums").normal(0.4, 1, (15, 3))
    random = sign_flip(np.concatenate([sums, np.full((15, 1), 1.0)], 1), stream(1, "f"))
    np.testing.assert_allclose(random[:3], [flips_by_hand(column) for column in sums.T], atol=0.012)
    assert 0 < random[3] < 0.001


def test_flips_do_not_depend_on_memory_scale_or_sign(monkeypatch):
    sums = stream(0, "sums").normal(0.2, 1, (20, 1))
    found = sign_flip(np.concatenate([sums, -1000 * sums], 1), stream(1, "f"))
    assert found[0] == found[1]
    monkeypatch.setattr(statistics, "BLOCK", 20_000)
    assert abs(sign_flip(sums, stream(1, "f"))[0] - found[0]) < 0.01


def test_no_difference_is_no_evidence():
    assert sign_flip(np.zeros((5, 1)), stream(0, "f"))[0] == sign_flip(np.zeros((30, 1)), stream(0, "f"))[0] == 1


def test_with_five_sources_nothing_can_be_claimed():
    assert sign_flip(np.ones((5, 1)), stream(0, "f"))[0] > 0.05 > sign_flip(np.ones((6, 1)), stream(0, "f"))[0]


@pytest.mark.parametrize("sources", [8, 30])
def test_size_of_the_test_where_pictures_are_dependent(sources):
    columns = []
    for trial in range(1000):
        values, groups = nested(stream(trial, "null", sources), sources, 6, between=0.05, within=0.02)
        columns.append(np.bincount(groups, values))
    sums = np.stack(columns, 1)
    p = sign_flip(sums, stream(0, "f"))
    assert 0.03 <= np.mean(p < 0.05) <= 0.07
    # A t-test that takes pictures for independent finds differences that are not there.
    naive = [stats.ttest_1samp(nested(stream(trial, "null", sources), sources, 6, 0.05, 0.02)[0], 0).pvalue
             for trial in range(300)]
    assert np.mean(np.array(naive) < 0.05) > 0.2


@pytest.mark.parametrize("comparisons", [1, 10])
def test_power_is_what_the_smallest_difference_promises(comparisons):
    sources, between, within, pictures = 25, 0.03, 0.04, 4
    sd = math.sqrt(between**2 + within**2 / pictures)
    difference = smallest_difference(sd, sources, comparisons)
    sums = np.stack([np.bincount(groups, values) for values, groups in (
        nested(stream(trial, "power"), sources, pictures, between, within, difference) for trial in range(800))], 1)
    assert np.mean(sign_flip(sums, stream(0, "f")) < 0.05 / comparisons) == pytest.approx(0.8, abs=0.05)


def test_smallest_difference_against_the_noncentral_t():
    for sources in (10, 40, 200):
        shift = smallest_difference(1.0, sources) * math.sqrt(sources)
        bar = stats.t.ppf(0.975, sources - 1)
        assert stats.nct.sf(bar, sources - 1, shift) == pytest.approx(0.8, abs=0.01)


@given(st.floats(0.001, 0.5), st.floats(0.005, 0.1), st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_sources_needed_are_the_fewest(sd, wanted, comparisons):
    needed = sources_needed(sd, wanted, comparisons)
    assert smallest_difference(sd, needed, comparisons) <= wanted
    assert needed == fewest(comparisons) or smallest_difference(sd, needed - 1, comparisons) > wanted


@pytest.mark.parametrize("comparisons", [1, 3, 28, 190])
def test_the_fewest_sources_are_those_with_which_the_test_can_tell(comparisons):
    for sources, possible in ((fewest(comparisons) - 1, False), (fewest(comparisons), True)):
        assert (2 * 0.5 ** sources * comparisons < 0.05) == possible
        if sources <= 14:
            assert (sign_flip(np.ones((sources, 1)), stream(0, "f"))[0] * comparisons < 0.05) == possible
    assert math.isnan(smallest_difference(0.1, fewest(comparisons) - 1, comparisons))


def test_power_of_too_few_sources_is_undefined():
    assert math.isnan(smallest_difference(0.1, 5))
    assert math.isnan(source_sd(np.array([1.0]), np.array([3])))


def test_source_sd_is_plain_for_equal_sources_and_the_standard_error_for_others():
    means = stream(0, "sd").normal(size=12)
    assert source_sd(means * 5, np.full(12, 5)) == pytest.approx(means.std(ddof=1))
    counts = np.array([1, 2, 3, 8, 1, 6, 2, 2, 9, 4])
    found = []
    for trial in range(2000):
        generator = stream(trial, "ratio")
        sums = counts * generator.normal(size=10)
        found.append((sums.sum() / counts.sum(), source_sd(sums, counts) / math.sqrt(10)))
    estimates, errors = np.array(found).T
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(estimates.std(), rel=0.15)


def test_holm_by_hand():
    # Holm (1979): sorted p times 4, 3, 2, 1, never falling, at most 1.
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, np.nan, 0.7])), [1, np.nan, 1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    order, rejected = sorted(range(len(p)), key=lambda index: p[index]), set()
    for step, index in enumerate(order):
        if p[index] * (len(p) - step) >= 0.05:
            break
        rejected.add(index)
    corrected = holm(np.array(p))
    assert set(np.flatnonzero(corrected < 0.05)) == rejected
    assert np.all(corrected >= np.array(p)) and np.all(corrected <= 1)


def test_superiority_counts_ties_half():
    assert superiority(np.array([0.1, 0.2, -0.3, 0.0])) == 0.625
    assert math.isnan(superiority(np.array([])))


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_against_scipy(ties):
    values = stream(0, "ranks").random((12, 4)).round(1 if ties else 9)
    average, p = friedman(values)
    assert p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    np.testing.assert_allclose(average, stats.rankdata(-values, axis=1).mean(0))


def test_friedman_of_two_is_the_sign_test_and_of_equals_finds_nothing():
    values = np.stack([np.arange(10.0), np.arange(10.0) - 1], 1)
    average, p = friedman(values)
    assert list(average) == [1, 2]
    assert p == pytest.approx(stats.chi2.sf(10, 1))
    assert friedman(np.ones((5, 3)))[1] == 1


def test_critical_difference_against_the_published_table():
    # Demšar (2006), table 5(a): q₀.₀₅ for 2 to 10 classifiers.
    table = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for count, quantile in enumerate(table, 2):
        plain = quantile * math.sqrt(count * (count + 1) / (6 * 14))
        assert critical_difference(count, 14) == pytest.approx(plain, rel=5e-4)
    # His example: four classifiers on 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_components_are_found_apart():
    found = []
    for trial in range(300):
        generator = stream(trial, "components")
        groups = np.repeat(np.arange(15), generator.integers(1, 8, 15))
        values = (0.04 * generator.normal(size=(4, 1)) + 0.06 * generator.normal(size=15)[groups]
                  + 0.05 * generator.normal(size=groups.size) + 0.01 * generator.normal(size=(4, groups.size)))
        parts = variance_components(values, groups)
        found.append((parts.seed, parts.source, parts.picture))
    seed, source, picture = np.sqrt(np.mean(np.square(found), axis=0))
    assert seed == pytest.approx(0.04, rel=0.1)
    assert source == pytest.approx(0.06, rel=0.1)
    assert picture == pytest.approx(math.hypot(0.05, 0.01), rel=0.1)


def test_components_that_the_data_do_not_hold_are_undefined():
    parts = variance_components(stream(0, "c").random((1, 6)), np.arange(6))
    assert math.isnan(parts.seed) and math.isnan(parts.picture)
    assert parts.source == pytest.approx(np.std(stream(0, "c").random(6), ddof=1))
    assert math.isnan(variance_components(np.ones((2, 4)), np.zeros(4, int)).source)
    assert variance_components(np.ones((2, 4)), np.array([0, 0, 1, 1])) == statistics.Variance(0, 0, 0)
