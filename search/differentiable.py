"""What differentiable strategies share: architecture weights, their training, and the remedies for its collapse."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from configs.engine import check_finite
from configs.errors import UserError
from configs.streams import stream
from search.samplers import price
from search.strategy import Batch, Scored, SearchContext, Strategy, descend
from search_space.genotype import Genotype


class DifferentiableStrategy(Strategy):
    """Alternates a step of the architecture weights on validation pictures and one of the weights on training ones.

    Under each label stands one architecture weight (alpha) for each option; the result is the genotype of the
    strongest. Remedies, in `search.differentiable`: epochs at the start that train weights alone (Cai et al. 2019,
    ProxylessNAS; Chen et al. 2019, P-DARTS), dropout of identities (P-DARTS), an end once they dominate (Liang et al.
    2019, DARTS+), the entropy of the alphas' softmax in their loss (Tian et al. 2021, discretization-aware search) and
    the expected cost there (Wu et al. 2019, FBNet); `search.clip_norm` cuts the gradient of the weights.
    """

    uses_validation = True

    def set_up(self, context: SearchContext) -> None:
        self.context = context
        settings, device = context.settings, context.fabric.device
        self.remedies = settings.differentiable
        self.alphas = {label: torch.zeros(len(options), device=device, requires_grad=True)
                       for label, options in context.space.options().items()}
        self.optimizer: Any = context.fabric.setup_optimizers(
            torch.optim.Adam(context.network.parameters(), settings.learning_rate))
        self.architecture_optimizer: Any = context.fabric.setup_optimizers(torch.optim.Adam(
            self.alphas.values(), settings.architecture_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3))
        self.prices = [self._price(cost, weight) for cost, weight in (
            ("flops", self.remedies.flops_weight), (settings.objective.cost, settings.objective.cost_weight)) if weight]
        self.found: list[str] = []
        # That there is a genotype to end with is known before anything is trained.
        strongest(context, self.alphas, self.remedies.identity_limit)

    @abstractmethod
    def architecture_loss(self, number: int, train: Batch, validation: Batch) -> Tensor:
        """What a step descends by the architecture weights."""

    @abstractmethod
    def weights_loss(self, number: int, train: Batch) -> Tensor:
        """What a step descends by the weights."""

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        assert validation is not None
        if number // self.context.settings.steps >= self.remedies.warmup_epochs:
            self.architecture_optimizer.zero_grad()
            loss = descend(self.context, self.architecture_optimizer, self.architecture_loss(number, train, validation))
            check_finite(loss, number, "search.learning_rate or search.architecture_learning_rate")
        self.optimizer.zero_grad()
        return descend(self.context, self.optimizer, self.weights_loss(number, train), clip=True)

    def logits(self, number: int) -> dict[str, Tensor]:
        """The alphas; −∞ for identities that step `number` leaves out, as `operation_dropout` falls linearly to 0."""
        settings, space = self.context.settings, self.context.space
        rate = self.remedies.operation_dropout * (1 - number / (settings.epochs * settings.steps))
        if rate <= 0 or "identity" not in space.operations or len(space.operations) == 1:
            return dict(self.alphas)
        left_out = stream(self.context.seed, "operation-dropout", number).random(len(space.labels())) < rate
        identity = torch.tensor([name == "identity" for name in space.operations], device=self.context.fabric.device)
        masked = {label: self.alphas[label].masked_fill(identity, -torch.inf)
                  for label, out in zip(space.labels(), left_out, strict=True) if out}
        return self.alphas | masked

    def penalty(self) -> Tensor | float:
        """What the architecture's loss holds beside that of the network: entropy, in nats, and expected shares of the
        space's largest number of operations and of the objective's largest cost, by their weights."""
        total: Tensor | float = 0.0
        if self.remedies.entropy_weight:
            entropies = [-(alpha.softmax(0) * alpha.log_softmax(0)).sum() for alpha in self.alphas.values()]
            total = total + self.remedies.entropy_weight * torch.stack(entropies).mean()
        for base, shares in self.prices:
            total = total + base + torch.stack([alpha.softmax(0) @ shares[label]
                                                for label, alpha in self.alphas.items()]).sum()
        return total

    def _price(self, name: str, weight: float) -> tuple[float, dict[str, Tensor]]:
        """A cost as shares of the space's largest, times `weight`: what all genotypes share, and each option's."""
        costs, device = self.context.costs, self.context.fabric.device
        factor = weight / price(costs.range()[1], name)
        return factor * price(costs.base, name), {
            label: torch.tensor([factor * price(costs.options[label][option], name) for option in options],
                                device=device, dtype=torch.float32)
            for label, options in self.context.space.options().items()}

    def epoch_end(self, epoch: int) -> bool:
        """Notes the strongest genotype; ends the search where too many of its slots are identities."""
        if epoch < self.remedies.warmup_epochs:
            return False
        genotype, limit = strongest(self.context, self.alphas), self.remedies.identity_limit
        dominated = identity_share(genotype) > limit
        if dominated and not self.found:  # There is no epoch before to go back to.
            genotype = strongest(self.context, self.alphas, limit)
        if not dominated or not self.found:
            self.found = [str(genotype), *(other for other in self.found if other != str(genotype))]
        return dominated

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        """The strongest genotypes at the ends of all epochs that trained alphas, newest first.

        The newest by itself: no race takes pictures from the score of the result.
        """
        texts = self.found[:1] if not history else self.found[1:] if len(history) == 1 else []
        return [Genotype.parse(text, self.context.space) for text in texts]

    def choose(self, history: Sequence[Scored]) -> Scored:
        """The strongest genotype, whatever the scores."""
        return history[0]

    def architecture(self) -> Mapping[str, Sequence[float]]:
        return {label: alpha.detach().softmax(0).tolist() for label, alpha in self.alphas.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "alphas": {label: alpha.detach() for label, alpha in self.alphas.items()},
            "optimizer": self.optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer.state_dict(),
            "found": self.found,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for label, alpha in self.alphas.items():
                alpha.copy_(state["alphas"][label])
        self.optimizer.load_state_dict(state["optimizer"])
        self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        self.found = list(state["found"])


def identity_share(genotype: Genotype) -> float:
    """Share of the slots that hold an identity."""
    names = [name for cell in genotype.cells for name in cell]
    return names.count("identity") / len(names)


def strongest(context: SearchContext, alphas: Mapping[str, Tensor], identities: float = 1.0) -> Genotype:
    """The genotype whose options have the largest product of the softmax of `alphas`, among those within
    `search.limits` whose share of identities is at most `identities`.

    Where the strongest of each label is not, this is a linear program over a variable 0 or 1 for each option, because
    costs and logarithms of the product are sums; HiGHS solves it to 1e-6 of the logarithm.

    Raises:
        UserError: there is none.
    """
    options = context.space.options()

    def fits(genotype: Genotype) -> bool:
        return context.allowed(genotype) and identity_share(genotype) <= identities

    sample = {label: names[int(alphas[label].argmax())] for label, names in options.items()}
    best = Genotype.from_sample(sample, context.space)
    if fits(best):
        return best
    pairs = [(label, name) for label, names in options.items() for name in names]
    slots, costs, limits = context.space.labels(), context.costs, context.settings.limits
    rows = [[float(of == label) for of, _ in pairs] for label in options]
    low, high = [1.0] * len(options), [1.0] * len(options)
    for key, limit in limits:
        if limit is not None:
            rows.append([getattr(costs.options[label][name], key) / limit for label, name in pairs])
            high.append(1 - getattr(costs.base, key) / limit)
    rows.append([(label in slots and name == "identity") / len(slots) for label, name in pairs])
    high.append(identities)
    strengths = torch.cat([alphas[label].detach().double().log_softmax(0) for label in options]).cpu().numpy()
    while True:
        low += [-np.inf] * (len(rows) - len(low))
        solved = milp(-strengths, integrality=np.ones(len(pairs)), bounds=Bounds(0, 1), options={"mip_rel_gap": 0},
                      constraints=LinearConstraint(np.array(rows), np.array(low), np.array(high)))
        if solved.x is None:
            raise UserError("search.limits: no genotype of the space keeps them"
                            + (" and search.differentiable.identity_limit" if identities < 1 else "")
                            + "; see giidnet list space")
        genotype = Genotype.from_sample(dict(pair for pair, chosen in zip(pairs, solved.x, strict=True)
                                             if chosen > 0.5), context.space)
        if fits(genotype):
            return genotype
        # HiGHS keeps limits to 1e-6: one that oversteps by less is ruled out, and the next strongest asked for.
        rows.append([float(genotype.sample()[label] == name) for label, name in pairs])
        high.append(len(options) - 1.0)
