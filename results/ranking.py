"""How far scores can be trusted to rank architectures, and whether a search found more than chance would have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from results.statistics import COVERAGE

TITLES = {"auc": "AUC", "f1": "F1"}

Row = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Noise:
    """What training again with other seeds changes.

    `within_sd` is the standard deviation over seeds of one architecture's score, less what a seed does to all alike,
    which changes no ranking; `between_sd` that of architectures without it. `reliability` in [0, 1] is the share of
    the variance of means over seeds that is the architectures' own (McGraw & Wong 1996, ICC(C,k)); `attainable_tau`
    the Kendall τ with those means of scores that knew the architectures' own quality, where both are normal (Greiner's
    relation).
    """

    within_sd: float
    between_sd: float
    reliability: float
    attainable_tau: float


@dataclass(frozen=True)
class Study:
    """How inherited scores of `architectures` compare with their means over `seeds` trainings alone.

    `agreement` is the mean Kendall τ between the scores of two single seeds. `regret` is by how much the best mean
    exceeds that of the architecture with the best inherited score, `random_regret` by how much the mean of all; `gain`
    is their difference, what choosing by inherited scores is worth. Intervals: percentile bootstrap over
    architectures. `p` is that of Kendall's test, two-sided, exact without ties: the chance of such a τ where scores
    have nothing to do with each other.
    """

    kendall_tau: Estimate
    p: float
    spearman_rho: Estimate
    agreement: Estimate
    noise: Noise
    regret: Estimate
    random_regret: Estimate
    gain: Estimate
    architectures: int
    seeds: int

    @property
    def text(self) -> str:
        """What it comes to, in a sentence or two."""
        tau = self.kendall_tau
        if math.isnan(tau.value):
            return "τ is undefined: all scores of one kind are equal."
        text = f"τ = {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}] over {self.architectures} architectures: "
        if tau.low <= 0 <= tau.high:
            text += "the interval holds 0: this ranking cannot be trusted."
        elif self.p > 1 - COVERAGE:
            # A bootstrap of a few pairs that happen to agree knows of no others.
            text += f"so few agree as well by chance (p = {self.p:.2f}): this ranking cannot be trusted."
        elif tau.low > 0:
            text += ("inherited scores rank better than chance; by the noise of seeds, perfect ones would reach about "
                     f"{self.noise.attainable_tau:.2f}.")
        else:
            text += "inherited scores rank the wrong way round."
        if not self.agreement.low > 0:
            text += (f" Nor do single seeds agree with each other (τ = {self.agreement.value:.2f} "
                     f"[{self.agreement.low:.2f}, {self.agreement.high:.2f}]): trained alone, these architectures "
                     "cannot be told apart; more steps, seeds or architectures (search.rank_study) may help.")
        return text

    def table(self) -> str:
        """The figures, a line each, and `text`."""
        noise = self.noise
        lines = [("Kendall τ", f"{self.kendall_tau}, p = {self.p:.2g}"), ("Spearman ρ", f"{self.spearman_rho}"),
                 ("τ between single seeds", f"{self.agreement}"),
                 ("sd between seeds, architectures", f"{noise.within_sd:.4f}, {noise.between_sd:.4f}: reliability "
                                                     f"{noise.reliability:.2f}, τ at most {noise.attainable_tau:.2f}"),
                 ("regret of the best inherited score", f"{self.regret}"),
                 ("regret of a random pick", f"{self.random_regret}"),
                 ("gain over a random pick", f"{self.gain}")]
        return "\n".join([*(f"{name:36}{figure}" for name, figure in lines), self.text])


@dataclass(frozen=True)
class Comparison:
    """A search's result against random genotypes, all trained alone and alike.

    `difference` is that of the result's mean over `seeds` from the mean of the random genotypes', `low` to `high` its
    95 % interval (NaN with one random genotype), `rank` the result's among all `of` them, 1 the best; `p` the chance
    of such a rank for one more random genotype, (1 + those as good) / (1 + random ones), which needs no assumption.
    `seed_sd` is the standard deviation over seeds of one genotype's score.
    """

    metric: str
    chosen: float
    random: float
    difference: float
    low: float
    high: float
    rank: int
    of: int
    p: float
    seeds: int
    seed_sd: float

    @property
    def better(self) -> bool:
        """Whether the interval is above 0."""
        return self.low > 0

    @property
    def text(self) -> str:
        """What was found, in one sentence."""
        found = "The search beat random: " if self.better else "The search found nothing better than random: "
        count = self.of - 1
        interval = "with one random genotype there is no interval" if count == 1 else \
            f"95 % interval [{self.low:+.3f}, {self.high:+.3f}]"
        return (f"{found}trained alone, its genotype has {TITLES[self.metric]} {self.chosen:.3f}, {count} random "
                f"genotype{'s' * (count > 1)} {self.random:.3f} on average ({self.seeds} seed{'s' * (self.seeds > 1)} "
                f"each); difference {self.difference:+.3f}, {interval}, rank {self.rank} of {self.of}.")


@dataclass(frozen=True)
class EpochRanking:
    """Kendall τ of the probes' scores after `epoch` with those after the last epoch, and after the one before (NaN for
    the first, and where all scores are equal)."""

    epoch: int
    to_last: float
    to_previous: float


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's τ-b of paired scores, N each, in [-1, 1]; NaN where one side's are all equal."""
    return float(stats.kendalltau(first, second).statistic) if _varied(first, second) else float("nan")


def spearman_rho(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's ρ of paired scores, N each, in [-1, 1]; NaN where one side's are all equal."""
    return float(stats.spearmanr(first, second).statistic) if _varied(first, second) else float("nan")


def resampled_ranks(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kendall's τ-b and Spearman's ρ of resamples, each R, where `weights`, R×N, tell how often each pair is drawn.

    As SciPy's of the pairs so repeated, by matrices of the signs of differences: all resamples at once.
    """
    signs = [np.sign(scores[:, None] - scores[None, :]) for scores in (first, second)]

    def pairs(matrix: np.ndarray) -> np.ndarray:
        return np.sum(weights @ matrix * weights, 1)

    # Twice the mid-ranks, less their mean.
    ranks = [weights @ matrix.T for matrix in signs]

    def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sum(weights * a * b, 1)

    with np.errstate(invalid="ignore"):
        return (pairs(signs[0] * signs[1]) / np.sqrt(pairs(abs(signs[0])) * pairs(abs(signs[1]))),
                products(*ranks) / np.sqrt(products(ranks[0], ranks[0]) * products(ranks[1], ranks[1])))


def noise_floor(alone: np.ndarray) -> Noise:
    """From scores of K ≥ 2 architectures, each with the same S ≥ 2 seeds, K×S."""
    count, seeds = alone.shape
    residuals = alone - alone.mean(1, keepdims=True) - alone.mean(0) + alone.mean()
    within = float(np.sum(residuals**2)) / ((count - 1) * (seeds - 1))
    between = seeds * float(np.var(alone.mean(1), ddof=1))
    reliability = max(0.0, 1 - within / between) if between else 0.0
    return Noise(math.sqrt(within), math.sqrt(max(0.0, between - within) / seeds), reliability,
                 2 / math.pi * math.asin(math.sqrt(reliability)))


def study_ranks(inherited: np.ndarray, alone: np.ndarray, resamples: int, generator: np.random.Generator) -> Study:
    """Compares inherited scores, K, with scores of training alone, K×S with S ≥ 2 seeds."""
    count, seeds = alone.shape
    means = alone.mean(1)
    weights = generator.multinomial(count, np.full(count, 1 / count), resamples).astype(float)
    couples = [(alone[:, a], alone[:, b]) for b in range(seeds) for a in range(b)]
    taus, rhos = resampled_ranks(inherited, means, weights)
    agreements = np.mean([resampled_ranks(*couple, weights)[0] for couple in couples], 0)
    (chosen,), (random,) = _regrets(inherited, means, np.ones((1, count)))
    chosens, randoms = _regrets(inherited, means, weights)
    return Study(_estimate(kendall_tau(inherited, means), taus), float(stats.kendalltau(inherited, means).pvalue),
                 _estimate(spearman_rho(inherited, means), rhos),
                 _estimate(float(np.mean([kendall_tau(*couple) for couple in couples])), agreements),
                 noise_floor(alone), _estimate(chosen, chosens), _estimate(random, randoms),
                 _estimate(random - chosen, randoms - chosens), count, seeds)


def against_random(rows: Sequence[Row], metric: str = "auc") -> Comparison | None:
    """From the rows of `search/alone.csv`; None unless the chosen and at least one random genotype share a seed.

    Takes only seeds that all genotypes were trained with. The interval is that of Student's t for a group of one
    against the random genotypes (Crawford & Howell 1998): had the search drawn its result at random, its mean would
    vary as theirs do, by genotype and by seed. Welch's t, by the noise of seeds alone for the chosen one, would take a
    lucky draw for a find.
    """
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        scores.setdefault((row["role"], row["genotype"]), {})[row["seed"]] = float(row[metric])
    shared = sorted(set.intersection(*map(set, scores.values()))) if scores else []
    values = {key: np.array([found[seed] for seed in shared]) for key, found in scores.items()}
    ours = [value for (role, _), value in values.items() if role == "chosen"]
    rivals = np.array([value for (role, _), value in values.items() if role == "random"])
    if not shared or not ours or not len(rivals):
        return None
    chosen, others = float(ours[0].mean()), rivals.mean(1)
    difference, count = chosen - float(others.mean()), len(others)
    margin = float("nan")
    if count > 1:
        margin = float(stats.t.ppf((1 + COVERAGE) / 2, count - 1) * np.std(others, ddof=1) * math.sqrt(1 + 1 / count))
    everyone = np.array([ours[0], *rivals])
    seed_sd = float(np.sqrt(np.mean(np.var(everyone, 1, ddof=1)))) if len(shared) > 1 else float("nan")
    return Comparison(metric, chosen, float(others.mean()), difference, difference - margin, difference + margin,
                      1 + int(np.sum(others > chosen)), count + 1, (1 + int(np.sum(others >= chosen))) / (1 + count),
                      len(shared), seed_sd)


def ranking_over_epochs(rows: Sequence[Row]) -> list[EpochRanking]:
    """From the rows of `search/ranking.csv`: scores of the same genotypes after each epoch."""
    scores: dict[int, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(int(row["epoch"]), {})[row["genotype"]] = float(row["auc"])
    epochs = sorted(scores)

    def tau(first: int, second: int) -> float:
        common = [genotype for genotype in scores[first] if genotype in scores[second]]
        return kendall_tau(*(np.array([scores[epoch][genotype] for genotype in common]) for epoch in (first, second)))

    return [EpochRanking(epoch, tau(epoch, epochs[-1]), tau(epoch, before) if before is not None else float("nan"))
            for before, epoch in zip([None, *epochs], epochs, strict=False)]


def _varied(*sides: np.ndarray) -> bool:
    return all(np.unique(side).size > 1 for side in sides)


def _regrets(inherited: np.ndarray, means: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the best inherited score and of a random pick, each R; of equally good inherited scores one is drawn."""
    drawn = weights > 0
    leading = np.where(drawn, inherited, -np.inf)
    picked = weights * (leading == leading.max(1, keepdims=True))
    best = np.where(drawn, means, -np.inf).max(1)
    return best - picked @ means / picked.sum(1), best - weights @ means / weights.sum(1)


def _estimate(value: float, resamples: np.ndarray) -> Estimate:
    """With the percentile interval of those resamples that have a value."""
    defined = resamples[~np.isnan(resamples)]
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if defined.size and not math.isnan(value) else [float("nan")] * 2
    return Estimate(float(value), float(low), float(high))
