"""NNI's strategies on this project's space, pictures, budget and objective.

NNI calls whoever uses it; a search here asks its strategy. So NNI runs in a thread that only ever runs while its caller
waits: a coroutine of code that knows nothing of it.
"""

import logging
import random
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from configs.errors import UserError
from configs.streams import torch_seed
from detectors.blocks import pad_to_multiple
from search.network import SearchNetwork
from search.one_shot import OneShot
from search.samplers import DRAWS
from search.strategy import Batch, Scored, SearchContext, Strategy
from search_space.genotype import CHOICES, Genotype
from search_space.space import ExtractionSpace, ModelSpace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nni.mutable import mutable
    from nni.nas import strategy as strategies
    from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
    from nni.nas.space import ModelStatus, RawFormatModelSpace
    from nni.nas.strategy import hpo

BLIND = ("Random", "GridSearch")
"""Strategies that look at no score: all their candidates can be scored together."""

Ask = Callable[[Any], Any]


class NniOneShot(Strategy):
    """NNI trains its own supernet, which has this one's weights at first and gives its own back after each epoch; the
    result is NNI's choice. `RandomOneShot`, which has none, leaves it to NNI's `Random` on the trained supernet."""

    FREE: ClassVar = ("RandomOneShot",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.uses_validation = name not in self.FREE  # type: ignore[misc]

    def set_up(self, context: SearchContext) -> None:
        choices = [key for key in CHOICES if getattr(context.space, key)]
        if choices:
            raise UserError(f"search.strategy nni:{self.name}: NNI's mixture reaches the slots alone; leave out "
                            f"space.{choices[0]}, or take another strategy")
        limited = any(limit is not None for limit in vars(context.settings.limits).values())
        if limited and self.name not in self.FREE:
            raise UserError(f"search.limits: nni:{self.name} cannot keep them; leave them out, or take another "
                            "strategy")
        if context.fabric.world_size > 1:
            raise UserError(f"search.strategy nni:{self.name}: NNI trains in one process; start one, or take another "
                            "strategy")
        self.context = context
        self.explorer = Explorer("Random", context)
        self.training: _Training | None = None
        self.saved: dict[str, Any] | None = None
        self.found = ""

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        if self.training is None:
            self.training = _Training(self.name, self.context, number)
            if self.saved is not None:
                self.training.load_state_dict(self.saved)
        return self.training.step(number, train, validation)

    def epoch_end(self, epoch: int) -> bool:
        assert self.training is not None
        self.training.give_back(self.context.network)
        with _contained(torch_seed(self.context.seed, "nni-choice", epoch)):
            self.found = str(self.training.choice())
        return False

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        if self.name in self.FREE:
            return self.explorer.propose(history)
        return [] if history else [Genotype.parse(self.found, self.context.space)]

    def architecture(self) -> Mapping[str, Sequence[float]] | None:
        alphas = self.training.alphas if self.training else {}
        return {label: alpha.detach().softmax(-1).tolist() for label, alpha in alphas.items()} or None

    def state_dict(self) -> dict[str, Any]:
        return {"found": self.found, "training": self.training.state_dict() if self.training else self.saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.found, self.saved, self.training = state["found"], state["training"], None


class NniMultiTrial(OneShot):
    """The supernet is trained as `one-shot` trains it; then NNI's strategy says what to score, and sees the scores."""

    def __init__(self, name: str) -> None:
        self.name = name

    def set_up(self, context: SearchContext) -> None:
        if self.name == "PolicyBasedRL" and not find_spec("tianshou"):
            raise UserError("search.strategy nni:PolicyBasedRL: needs tianshou and gym; pip install 'tianshou<0.5'")
        super().set_up(context)
        self.explorer = Explorer(self.name, context)

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        return self.explorer.propose(history)


class Explorer:
    """NNI's multi-trial strategy `name` as a function of the scores so far.

    It is told nothing but what it has asked for, in its order; a history that does not go on from the last one begins
    anew, which takes no scoring.
    """

    def __init__(self, name: str, context: SearchContext) -> None:
        self.name, self.context = name, context
        self.seed = torch_seed(context.seed, "nni-explore")
        self.talk: Conversation | None = None

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        """The next genotypes to score, all at once where scores do not matter; none at the end.

        Raises:
            UserError: none that NNI draws keeps `search.limits`.
        """
        context, scores = self.context, {str(scored.genotype): scored.score for scored in history}
        if self.talk is None or any(text not in scores or score not in (None, scores[text])
                                    for text, score in self.given.items()):
            self._begin()
        found: list[Genotype] = []
        misses = 0
        while self.asked is not None and misses < DRAWS:
            text, score = str(self.asked), 0.0
            if not context.allowed(self.asked):
                # Worse than any score can be, but finite: some strategies take means.
                score, misses = -1.0 - context.settings.objective.cost_weight, misses + 1
            elif text in scores:
                score, misses = scores[text], misses + 1
                self.given[text] = score
            elif len(scores) + len(found) >= context.settings.candidates:
                break
            else:
                found.append(self.asked)
                if self.name not in BLIND:
                    break
                self.given[text] = None
            self._send(score)
        if not found and not history:
            raise UserError(f"search.limits: no genotype that nni:{self.name} proposed keeps them; see giidnet list "
                            "space")
        return found

    def _begin(self) -> None:
        # What was asked for and the score that was told; None where NNI was told none that counts.
        self.given: dict[str, float | None] = {}
        self.turn = 0
        self.talk = Conversation(partial(_explore, self.name, self.context, self.seed))
        self._send(None)

    def _send(self, score: float | None) -> None:
        assert self.talk is not None
        with _contained(torch_seed(self.context.seed, "nni-explore", self.turn)):
            sample = self.talk.send(score)
        self.turn += 1
        self.asked = None if sample is None else Genotype.from_sample(sample, self.context.space)


class Conversation:
    """Runs `talk(ask)` in a thread of its own, which waits in `ask` for its caller as its caller waits in `send`."""

    def __init__(self, talk: Callable[[Ask], None]) -> None:
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.questions: SimpleQueue[Any] = SimpleQueue()
        self.thread = threading.Thread(target=_talk, args=(talk, self.answers, self.questions), daemon=True)
        self.over = False
        # The thread knows the queues alone, so that it ends with the last that knows this object.
        self.end = weakref.finalize(self, _end, self.thread, self.answers)

    def send(self, answer: Any) -> Any:
        """Answers the last question (the first answer is to none); returns the next, None when there is none.

        Raises:
            Exception: what `talk` raised.
            RuntimeError: it had ended before.
        """
        if self.over:
            raise RuntimeError("nobody is there to answer")
        if self.thread.ident is None:
            self.thread.start()
        else:
            self.answers.put(answer)
        question = self.questions.get()
        self.over = question is None or isinstance(question, BaseException)
        if isinstance(question, BaseException):
            raise question
        return question


class _Stop(BaseException):
    """Ends a conversation that nobody listens to any more."""


def _end(thread: threading.Thread, answers: "SimpleQueue[Any]") -> None:
    if thread.is_alive():
        with _silent():
            answers.put(_Stop())
            # A thread that were still in native code when the interpreter ends would abort the process.
            thread.join(60)


def _talk(talk: Callable[[Ask], None], answers: "SimpleQueue[Any]", questions: "SimpleQueue[Any]") -> None:
    def ask(question: Any) -> Any:
        questions.put(question)
        answer = answers.get()
        if isinstance(answer, _Stop):
            raise answer
        return answer

    try:
        talk(ask)
        questions.put(None)
    except _Stop:
        pass
    except BaseException as error:
        questions.put(error)


class _Space(RawFormatModelSpace):
    """Each of its models has a sample of its own; NNI's grid gives all of them one, which it changes and empties."""

    def freeze(self, sample: Mapping[str, str]) -> Any:
        return super().freeze(dict(sample))


class _Engine(SequentialExecutionEngine):
    """Asks for the score of each model that is submitted, instead of building and running it."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self.ask = ask

    def _run_single_model(self, model: Any) -> None:
        self.dispatch_model_event(FinalMetricEvent(model, self.ask(model.sample)))
        self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))


def _explore(name: str, context: SearchContext, seed: int, ask: Ask) -> None:
    evolution, seed = context.settings.evolution, seed % 2**32
    options: dict[str, dict[str, Any]] = {
        "TPE": {"optimize_mode": "maximize", "seed": seed},
        "RegularizedEvolution": {"population_size": evolution.population, "mutation_prob": evolution.mutation,
                                 "sample_size": min(evolution.sample, evolution.population), "seed": seed},
        "PolicyBasedRL": {}}
    with torch.device("meta"):
        space = ExtractionSpace(context.space)
    getattr(strategies, name)(**options.get(name, {"seed": seed}))(_Space(space, None), _Engine(ask))


class NniNetwork(ModelSpace):
    """The search network with NNI's choices instead of slots, and its weights."""

    def __init__(self, network: SearchNetwork) -> None:
        super().__init__()
        twin = SearchNetwork(network.space, network.supernet.width, network.streams)
        self.reduction, self.enhancement = network.reduction, twin.enhancement
        # Before the decision: the norm that gradients are clipped by is summed in the order of the search network.
        self.extraction = ExtractionSpace(network.space, network.supernet.width)
        self.decision = twin.decision
        self.load_state_dict({_nni_name(name): value for name, value in network.state_dict().items()})

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1] to logits N×1×H×W."""
        x = pad_to_multiple(images * 2 - 1, self.reduction)
        x = self.decision(self.extraction(self.enhancement(x)))
        return x[..., :images.shape[-2], :images.shape[-1]]


def _nni_name(name: str) -> str:
    """Name in `NniNetwork`, mutated or not, of a tensor of `SearchNetwork`."""
    return name.replace("supernet.cells.", "extraction.cells.").replace(".candidates.", ".")


class _Task(LightningModule):
    """What NNI trains: binary cross-entropy, Adam; `loss` is that of the last training step."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate, self.loss = learning_rate, torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = binary_cross_entropy_with_logits(self(batch[0]), batch[1])
        self.loss = loss.detach()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.learning_rate)


@dataclass
class _Batches:
    """What an epoch has left. Its length keeps Lightning from asking for a batch ahead."""

    left: Callable[[], int]
    take: Callable[[], Batch]

    def __len__(self) -> int:
        return self.left()

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.left()):
            yield self.take()


class _Training:
    """NNI's training of its supernet from step `number`, one step at a time."""

    def __init__(self, name: str, context: SearchContext, number: int) -> None:
        self.context, settings, fabric = context, context.settings, context.fabric
        self.task = _Task(settings.learning_rate)
        with _contained(torch_seed(context.seed, "nni-begin")):
            self.strategy = getattr(strategies, name)(**_one_shot_options(name, context))
            self.trainer = Trainer(
                accelerator="gpu" if fabric.device.type == "cuda" else "cpu",
                devices=[fabric.device.index or 0] if fabric.device.type == "cuda" else 1,
                precision=fabric.strategy.precision.precision, max_epochs=settings.epochs,
                # NNI clips by itself where it steps the optimisers itself.
                gradient_clip_val=settings.clip_norm if name == "RandomOneShot" else None,
                # The epoch that a resumed search begins with is shorter.
                reload_dataloaders_every_n_epochs=1, limit_val_batches=0, num_sanity_val_steps=0, logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                use_distributed_sampler=False)
            self.trainer.fit_loop.epoch_progress.current.processed = number // settings.steps
            self.model = NniNetwork(context.network)
            self.talk = Conversation(partial(_fit, self.strategy, self.model, self.task, self.trainer, settings.steps,
                                             number))
            self.talk.send(None)
        for optimizer in self.trainer.optimizers:
            if getattr(optimizer, "is_arch_optimizer", False):
                # NNI takes them from a set, in whose order their state could not be told apart after a resume.
                optimizer.param_groups[0]["params"] = list(self.alphas.values())

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        """Architecture weights by label; none where the strategy has none."""
        # NNI's labels are a class of its own, which a checkpoint must not hold.
        return {str(label): alpha for label, alpha in getattr(self.strategy, "_arch_parameters", {}).items()}

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        """One training step; returns its loss."""
        with _contained(torch_seed(self.context.seed, "nni-step", number)):
            self.talk.send((train, validation))
        return self.task.loss.item()

    def choice(self) -> Genotype:
        """What NNI would choose now."""
        return Genotype.from_sample(next(self.strategy.list_models()).sample, self.context.space)

    def give_back(self, network: SearchNetwork) -> None:
        """Copies the weights to `network`."""
        state = self.model.state_dict()
        network.load_state_dict({name: state[_nni_name(name)] for name in network.state_dict()})

    def state_dict(self) -> dict[str, Any]:
        """Weights, architecture weights and the state of the optimisers."""
        return {"model": self.model.state_dict(), "optimizers": [one.state_dict() for one in self.trainer.optimizers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _fit(strategy: Any, model: NniNetwork, task: _Task, trainer: Any, steps: int, taken: int, ask: Ask) -> None:
    kept = deque[Batch]()

    def left() -> int:
        return steps - taken % steps

    def take() -> Batch:
        nonlocal taken
        train, validation = ask("batch")
        taken += 1
        if validation is not None:
            kept.append(validation)
        return train

    evaluator = Lightning(task, trainer, _Batches(left, take), _Batches(left, kept.popleft))
    strategy(RawFormatModelSpace(model, evaluator), SequentialExecutionEngine())


def _one_shot_options(name: str, context: SearchContext) -> dict[str, Any]:
    settings = context.settings
    if name == "RandomOneShot":
        return {}
    temperature = {"temperature": tuple(settings.differentiable.temperature)} if name == "GumbelDARTS" else {}
    return {"arc_learning_rate": settings.architecture_learning_rate, "gradient_clip_val": settings.clip_norm,
            "warmup_epochs": settings.differentiable.warmup_epochs} | temperature


@contextmanager
def _silent() -> Iterator[None]:
    """What NNI and Lightning have to say is not heard."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in ("nni", "pytorch_lightning", "lightning_fabric"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
        yield


@contextmanager
def _contained(seed: int) -> Iterator[None]:
    """While NNI runs: its random choices derive from `seed`, it is silent, and nothing global is left changed."""
    with _silent(), ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        # NNI's path sampling makes a generator of the system's entropy for each choice.
        stack.enter_context(patch.object(mutable, "RandomState", lambda: np.random.RandomState(
            np.random.randint(2**32, dtype=np.uint64))))
        # Its tuners sleep a second after each candidate.
        stack.enter_context(patch.object(hpo, "time", SimpleNamespace(sleep=lambda _: None)))
        yield
