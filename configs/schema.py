"""What a run can be told, key by key. `configs.load` reads a YAML file into `RunConfig`.

Names that a registry of a later stage defines (methods, operations, detectors, strategies) are checked against
the lists or by the functions given as validation context, so that nothing here imports those stages.
"""

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)


def known(kind: str) -> AfterValidator:
    """Accepts a name that the validation context knows under `kind`, any name where it holds nothing there.

    It holds a list of names, or a function that raises ValueError for a wrong one.
    """

    def check(value: str, info: ValidationInfo) -> str:
        names = (info.context or {}).get(kind)
        if callable(names):
            names(value)
        elif names is not None and value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return AfterValidator(check)


def increasing(value: list[float]) -> list[float]:
    """Accepts [low, high] with low <= high."""
    if value[0] > value[1]:
        raise ValueError("must be [low, high] with low at most high")
    return value


def rising(value: list[float]) -> list[float]:
    """Accepts numbers each larger than the one before."""
    if any(low >= high for low, high in itertools.pairwise(value)):
        raise ValueError("must rise from each number to the next")
    return value


def distinct(value: list[str]) -> list[str]:
    """Accepts a list without repetition."""
    if len(set(value)) < len(value):
        raise ValueError("must name each entry once")
    return value


def distinct_parts(value: list[list[str]]) -> list[list[str]]:
    """Accepts a list without two entries of the same parts."""
    if len({frozenset(parts) for parts in value}) < len(value):
        raise ValueError("must name each combination once")
    return value


def class_weight(value: float | str) -> float | str:
    """Accepts a finite number above 0, and "balanced"."""
    if value != "balanced" and not (isinstance(value, float | int) and 0 < value < math.inf):
        raise ValueError("must be a number above 0, or balanced")
    return value


Fraction = Annotated[float, Field(gt=0, lt=1)]
Width = Annotated[float, Field(gt=0, le=4)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[list[Fraction], Field(min_length=2, max_length=2), AfterValidator(increasing)]
MethodName = Annotated[str, known("methods")]
MaskName = Annotated[str, known("masks")]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LIST_OR_WEIGHTS = Discriminator(lambda value: "(weights)" if isinstance(value, dict) else "(list)")
"""Tags stand in parentheses: errors tell where they are by them, which is nothing to the user."""
Masks = Annotated[
    Annotated[list[MaskName], Field(min_length=1), AfterValidator(distinct), Tag("(list)")]
    | Annotated[dict[MaskName, Weight], Field(min_length=1), Tag("(weights)")], LIST_OR_WEIGHTS]
Methods = Annotated[
    Annotated[list[MethodName], Field(min_length=1), AfterValidator(distinct), Tag("(list)")]
    | Annotated[dict[MethodName, Weight], Field(min_length=1), Tag("(weights)")], LIST_OR_WEIGHTS]
OperationName = Annotated[str, known("operations")]
StrategyName = Annotated[str, known("strategies")]
TraineeName = Annotated[str, known("trainees")]
PerturbationName = Annotated[str, known("perturbations")]
Perturbations = Annotated[
    Annotated[list[PerturbationName], Field(min_length=1), AfterValidator(distinct), Tag("(list)")]
    | Annotated[dict[PerturbationName, Weight], Field(min_length=1), Tag("(weights)")], LIST_OR_WEIGHTS]
StreamName = Annotated[str, known("streams")]
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")]
"""Becomes the name of a folder."""


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Split(Section):
    """Shares of the photographs, by source."""

    train: Fraction = 0.7
    val: Fraction = 0.15
    test: Fraction = 0.15

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, not {self.train + self.val + self.test:g}")
        return self


class Photos(Section):
    """Where photographs come from. A bare folder, or a list of folders, stands for `dirs`."""

    dirs: list[str] = []
    """Folders, read recursively and split by `split`."""
    train: list[str] = []
    val: list[str] = []
    test: list[str] = []
    """Folders given per split; all three, or none and `dirs`. With no folder at all: scikit-image's photographs."""
    split: Split = Split()
    shrink: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2),
                      AfterValidator(increasing)] | None = Field(default=[0.5, 0.75])
    """Area interpolation by a factor drawn from this range removes the traces of the photographs' own JPEG grid."""

    @model_validator(mode="before")
    @classmethod
    def _folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"dirs": [value]}
        if isinstance(value, list):
            return {"dirs": value}
        if isinstance(value, dict):
            return {key: [entry] if key in ("dirs", "train", "val", "test") and isinstance(entry, str) else entry
                    for key, entry in value.items()}
        return value

    @model_validator(mode="after")
    def _one_way(self) -> "Photos":
        given = [bool(self.train), bool(self.val), bool(self.test)]
        if any(given) and (self.dirs or not all(given)):
            raise ValueError("give either dirs, or all of train, val and test")
        return self


class Forgeries(Section):
    """What training sees: made on the fly from the training photographs."""

    methods: Methods = ["TE", "PM"]
    """A list, of which one is drawn for each picture, or weights by method: `{TE: 2, GC-S: 1}`."""
    sampling: Literal["uniform", "families"] = "uniform"
    """How methods are drawn: `families` gives classical methods, learned ones and diffusion equal shares in sum."""
    masks: Masks = ["rectangle", "stroke", "blob"]
    """A list, of which one is drawn uniformly for each picture, or weights by kind: `{rectangle: 2, text: 1}`."""
    mask_fraction: Range = Field(default=[0.04, 0.25])
    image_size: Annotated[int, Field(ge=16, multiple_of=8)] = 128
    authentic: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the pictures that detectors are trained on that are not forged, so that they learn to find nothing."""
    inverted: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the pictures that detectors are trained on, of those by methods that see the hole and leave the rest as
    it is (RD, LM, RS-…), in which the surroundings are processed and the hole, still the mask, is not: what is foreign
    is what is rare."""
    before: Perturbations = ["none"]
    """What happened to the photograph before it was forged: a list, of which one is drawn uniformly for each picture,
    or weights: `{none: 2, jpeg-75..98: 1}`."""
    perturbations: Perturbations = ["none"]
    """What happens to the forgery; drawn likewise."""
    cache_gigabytes: Annotated[float, Field(ge=0)] = 4.0
    """Disk space for what was painted, so that no hole is painted twice; 0 keeps nothing. It lies in the user's cache
    folder, or where the environment's GIIDNET_CACHE says."""
    workers: Annotated[int, Field(ge=0)] = 1


class Space(Section):
    """The search space of the extraction block: cells in a row, `slots` operations to choose in each."""

    operations: Annotated[list[OperationName], Field(min_length=1), AfterValidator(distinct)] = \
        ["sep3", "relu_sep3", "relu_sep5", "identity"]
    cells: Count = 10
    slots: Count = 3
    channels: Annotated[list[Count], Field(min_length=1)] = [128] + [256] * 9
    """Output channels of each cell at width 1."""
    strides: Annotated[list[Annotated[int, Field(ge=1, le=2)]], Field(min_length=1)] = [2, 2] + [1] * 8
    dilations: Annotated[list[Count], Field(min_length=1)] = [1, 1, 1] + [2] * 7
    width: Width = 1.0
    """Factor on all channels of the supernet."""
    decoder: Literal[1, 2, 4, 8] = 1
    """The map is decoded at 1/decoder of the picture's sides and then enlarged."""
    streams: Annotated[list[Annotated[list[StreamName], Field(min_length=1), AfterValidator(distinct)]],
                       AfterValidator(distinct_parts)] = []
    """What the streams of the enhancement block are chosen from, such as [[plain], [plain, bayar]]; by default they
    are no choice, and the supernet has those of search.streams."""
    attention: Annotated[list[Annotated[list[Literal["global", "local"]], AfterValidator(distinct)]],
                         AfterValidator(distinct_parts)] = []
    """What the attention of the decision block is chosen from, such as [[], [local], [global, local]]; by default it is
    no choice: the supernet has none, as in the paper, and retrained networks have both."""

    @model_validator(mode="after")
    def _decoded(self) -> "Space":
        if self.decoder > math.prod(self.strides):
            raise ValueError(f"decoder {self.decoder} needs strides whose product is at least that, "
                             f"not {math.prod(self.strides)}")
        return self

    @model_validator(mode="after")
    def _one_per_cell(self) -> "Space":
        for key in ("channels", "strides", "dilations"):
            entries = getattr(self, key)
            if len(entries) != self.cells:
                raise ValueError(f"{key} has {len(entries)} entries for cells = {self.cells}; give one per cell")
        return self


class Objective(Section):
    """What the search maximises: a mean over validation forgeries, less a cost."""

    metric: Literal["auc", "f1"] = "auc"
    methods: Annotated[list[MethodName], AfterValidator(distinct)] = []
    """Methods that candidates are scored on, in equal parts; by default those of forgeries.methods."""
    generalize: bool = False
    """Candidates are scored on methods that the supernet never saw, and tested on others again: refuses a method that
    stands in two of forgeries.methods, search.objective.methods and benchmark.methods."""
    cost: Literal["params", "flops", "latency"] = "flops"
    cost_weight: Annotated[float, Field(ge=0)] = 0.0
    """What a candidate loses for the largest cost of the space; a share of it loses that share."""


class Limits(Section):
    """Costs of the extraction block on one training picture that no candidate may exceed; null has no limit."""

    params: Count | None = None
    flops: Count | None = None
    latency_ms: Annotated[float, Field(gt=0)] | None = None


class Racing(Section):
    """Successive halving: all candidates are scored on a share of the validation pictures, the best on more."""

    keep: Annotated[int, Field(ge=0)] = 20
    """At least so many candidates of a batch are scored over all pictures; 0 scores all of them so."""
    factor: Annotated[int, Field(ge=2)] = 2
    """Each round keeps one of so many, and looks at so many times more pictures."""
    rounds: Annotated[int, Field(ge=1)] = 4


class Evolution(Section):
    """Regularised evolution (Real et al. 2019), and the evolution of `one-shot` (Guo et al. 2020)."""

    population: Annotated[int, Field(ge=2)] = 50
    """All of these, `nsga2` and `tpe`: random candidates at the start; then a generation is as large, but `evolution`
    and `tpe` propose a fifth of it at a time."""
    sample: Annotated[int, Field(ge=1)] = 10
    """Regularised: members of a tournament. One-shot: parents of a generation."""
    mutation: Annotated[float, Field(gt=0, le=1)] = 0.1
    """One-shot: chance that a choice of a mutated child is drawn anew."""


class Differentiable(Section):
    """`darts` and `gumbel`, with the known remedies for their collapse; by default none is applied."""

    order: Literal[1, 2] = 1
    """`darts`: 2 looks one step of the weights ahead (Liu et al. 2019, section 2.3)."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the start in which weights are trained alone, by equal architecture weights."""
    operation_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance at the start, falling to 0, that a slot's identity is left out of a step (Chen et al. 2019, P-DARTS)."""
    identity_limit: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Stops when a larger share of the slots would be identities, with the genotype of the epoch before (Liang et
    al. 2019, DARTS+)."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the mean entropy of the slots' architecture weights in the loss of the architecture."""
    flops_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the expected operations, as a share of the space's largest, in the loss of the architecture."""
    temperature: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)] = [5.0, 0.5]
    """`gumbel`: at the start and at the end; it falls geometrically from epoch to epoch."""


class Alone(Section):
    """Training of single architectures from scratch, alike for all: what rankings are compared with."""

    steps: Count = 200
    batch_size: Count = 8
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3


class Check(Alone):
    """Every search trains its result and random genotypes alone, and says whether it found something."""

    random: Annotated[int, Field(ge=0)] = 8
    """Random genotypes; 0 leaves the check away."""
    seeds: Annotated[int, Field(ge=2)] = 2


class RankStudy(Alone):
    """`giidnet rank-study`: do inherited scores rank architectures as training alone does?"""

    architectures: Annotated[int, Field(ge=4)] = 20
    seeds: Annotated[int, Field(ge=3)] = 3
    bootstrap: Annotated[int, Field(ge=100)] = 2000


class Search(Section):
    """How the supernet is trained and the genotype chosen."""

    strategy: StrategyName = "one-shot"
    streams: Annotated[list[StreamName], Field(min_length=1), AfterValidator(distinct)] = ["plain"]
    """Streams of the supernet's enhancement block; the paper's supernet has the plain one only."""
    epochs: Count = 10
    steps: Count = 100
    """Steps of an epoch."""
    batch_size: Count = 8
    """Pictures of a step, of all processes together."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    architecture_learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """For the architecture weights of differentiable strategies."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of a step's gradient of the weights; null does not clip."""
    paths: Literal["uniform", "fair"] = "uniform"
    """How one-shot training draws paths; fair: each step trains every option of a slot once (Chu et al. 2021,
    FairNAS)."""
    sampler: Literal["random", "evolution"] = "random"
    """How `one-shot` proposes candidates."""
    candidates: Count = 1000
    """Architectures that are scored after the supernet's training, where the strategy samples them."""
    architectures: Annotated[int, Field(ge=2)] = 8
    """`random`: architectures among which the training is divided."""
    validation_images: Count = 100
    recalibration_batches: Annotated[int, Field(ge=0)] = 4
    """Training batches from which each candidate's batch-norm statistics are taken anew; 0 keeps the supernet's."""
    latency: bool = False
    """Measure what operations take, for latencies of candidates. Off by default: measured times differ from run to
    run."""
    probes: Annotated[int, Field(ge=2)] = 8
    """Genotypes scored after each epoch, always the same: they show how the ranking changes."""
    prefix_megabytes: Annotated[int, Field(ge=1)] = 1024
    """Memory for the features of beginnings that candidates share; with less, some are computed again."""
    storage: str | None = None
    """Where workers share scores: an Optuna storage, `sqlite:///FILE`, `journal:FILE` or `postgresql://…`."""
    objective: Objective = Objective()
    limits: Limits = Limits()
    racing: Racing = Racing()
    evolution: Evolution = Evolution()
    differentiable: Differentiable = Differentiable()
    check: Check = Check()
    rank_study: RankStudy = RankStudy()

    @model_validator(mode="after")
    def _searched(self) -> "Search":
        warmup = self.differentiable.warmup_epochs
        if warmup and warmup >= self.epochs:
            raise ValueError(f"differentiable.warmup_epochs must be less than epochs, {self.epochs}, not {warmup}")
        return self

    @model_validator(mode="after")
    def _measured(self) -> "Search":
        weighs = self.objective.cost_weight or self.strategy == "nsga2"
        if not self.latency and (self.limits.latency_ms or (weighs and self.objective.cost == "latency")):
            raise ValueError("a limit or an objective on latency needs search.latency=true")
        return self


class Pretrain(Section):
    """How ManTraNet's trace extractor is trained to classify manipulations before ManTraNet is trained."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """0 trains ManTraNet from scratch."""
    steps: Count = 500
    """Steps of an epoch; validation after each."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    classes: Annotated[int, Field(ge=2, le=393)] = 385
    """Manipulations told apart, the pristine patch among them: seven families, each of several kinds and strengths."""
    patch: Annotated[int, Field(ge=32)] = 64
    """Side of the patches."""
    validation_patches: Count = 1000


class Published(Section):
    """What the published code does otherwise than its paper, or than one would want."""

    defects: Annotated[list[Literal["double-sigmoid", "plateau-minimises", "bayar-first-channel", "bayar-write-back",
                                    "batch-attention", "align-corners", "stretched-map"]],
                       AfterValidator(distinct)] = []
    """Defects of the published code to bring back, see docs/differences.md."""


class Optimisation(Published):
    """How weights follow from gradients."""

    optimizer: Literal["adam", "adamw", "schedule-free"] = "adam"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of `adamw` and `schedule-free`, decoupled from the gradient; biases and norms are left out."""
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    """Of the learning rate. `cosine`: warm-up, then a cosine to a hundredth. `constant`: warm-up, then the same rate.
    `plateau`, the published one: halved whenever the validation metric did not improve for more than
    `plateau_patience` epochs."""
    plateau_patience: Annotated[int, Field(ge=0)] = 10
    accumulate: Count = 1
    """Batches whose gradients are averaged for one step: large batches in little memory."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of a step's gradient; null does not clip."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of weights, which is validated and kept instead of them; 0 averages nothing."""
    patience: Count | None = None
    """Training ends after so many epochs in a row without a better score; null trains all epochs."""
    compile: bool = False
    """Networks in training go through torch.compile: the first steps take minutes, those that follow less time."""

    @model_validator(mode="after")
    def _decayed(self) -> "Optimisation":
        if self.optimizer != "schedule-free" and (self.optimizer == "adamw") != (self.weight_decay > 0):
            raise ValueError(f"optimizer {self.optimizer} with weight_decay {self.weight_decay:g}: give adamw a "
                             "weight_decay above 0, such as 0.01, and adam none")
        if self.optimizer == "schedule-free" and (self.schedule != "constant" or self.ema):
            raise ValueError(f"optimizer schedule-free with schedule {self.schedule} and ema {self.ema:g}: it averages "
                             "the weights itself instead of lowering the rate; give schedule=constant and ema=0")
        return self


class Loss(Published):
    """What training minimises: binary cross-entropy and further terms."""

    focal_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the focal term beside binary cross-entropy."""
    positive_weight: Annotated[float | str, AfterValidator(class_weight)] = 1.0
    """Weight of inpainted pixels in binary cross-entropy; `balanced`: in each picture both classes weigh the same."""
    dice_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Weight of the Dice term, which measures overlap whatever the mask's size; 0 leaves it out."""


class Retrain(Optimisation, Loss):
    """How detectors are trained, all at the same budget."""

    detectors: Annotated[list[TraineeName], Field(min_length=1), AfterValidator(distinct)] = \
        ["giidnet", "giidnet-random", "giidnet-released", "mantranet"]
    genotype: str | None = None
    """A genotype file; by default the one that this run's search found."""
    streams: Annotated[list[StreamName], AfterValidator(distinct)] = []
    """Streams of the enhancement block; by default those that the genotype has chosen, or else the published ones."""
    anomaly: bool = False
    """The decision block sees also how unusual each feature is for its picture; see docs/retraining.md."""
    width: Width = 1.0
    widths: dict[TraineeName, Width] = {}
    """Widths of single detectors, where they differ from `width`."""
    epochs: Count = 40
    steps: Count = 500
    """Steps of an epoch; validation after each."""
    batch_size: Count = 24
    """Pictures of a step, or of each of its `accumulate` parts."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    hard_examples: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an epoch's pictures that repeats the forgeries whose loss was highest in the epoch before."""
    validation_images: Count = 200
    validation_methods: Annotated[list[MethodName], AfterValidator(distinct)] = []
    """Methods that paint the validation pictures, on which the best epoch is chosen, in turn; by default one of
    forgeries.methods is drawn for each picture."""
    pictures: Annotated[int, Field(ge=0, le=64)] = 4
    """Fixed validation forgeries whose maps TensorBoard shows after each epoch; 0 shows none."""
    unseen_validation: bool = False
    """Refuses validation methods that are trained on."""
    pretrain: Pretrain = Pretrain()
    start: str | None = None
    """Trained weights that the training starts from: a checkpoint, or a detector whose weights there are."""
    freeze: Annotated[list[str], AfterValidator(distinct)] = []
    """Parts of the network that keep their weights and batch-norm statistics: `extraction`, `enhancement.streams`, …"""

    @model_validator(mode="after")
    def _defective(self) -> "Retrain":
        for name, key, wanted, given in (("plateau-minimises", "schedule", "plateau", self.schedule == "plateau"),
                                         ("double-sigmoid", "focal_weight", "above 0", self.focal_weight > 0)):
            if name in self.defects and not given:
                raise ValueError(f"defects: {name} needs {key} {wanted}, not {getattr(self, key)}")
        return self

    @model_validator(mode="after")
    def _of_one_network(self) -> "Retrain":
        if (self.start or self.freeze) and len(self.detectors) > 1:
            raise ValueError(f"{'start' if self.start else 'freeze'} is of one network; name it alone in "
                             f"retrain.detectors, not {', '.join(self.detectors)}")
        if self.start and self.pretrain.epochs:
            raise ValueError("start and pretrain.epochs both say where the weights come from; give one of them")
        return self


class Benchmark(Section):
    """What detectors are tested on, and how."""

    protocol: Literal["seen-unseen", "matrix", "leave-one-method-out", "leave-one-kind-out", "robustness", "size",
                      "authentic", "ablate"] = "seen-unseen"
    """The question asked. The matrix and both leave-one-out protocols train the detectors of retrain.detectors, several
    times over, unless benchmark.detectors names what to test; `ablate` trains what the section ablate says."""
    groups: dict[GroupName, Annotated[list[MethodName], Field(min_length=1), AfterValidator(distinct)]] = {}
    """`matrix`: methods that are trained on together, by the group's name; by default each of forgeries.methods is a
    group."""
    seeds: Count = 1
    """Trainings of each detector of a protocol that trains, with different weights and order of the pictures."""
    detectors: list[str] = []
    """Checkpoints and whatever else docs/detectors.md lists; by default what this run retrained, and `baselines`."""
    baselines: list[str] = ["noise-variance", "ela", "constant", "random"]
    """What a table shows the worth of a number by: detectors that are tested besides those that were retrained."""
    methods: Annotated[list[MethodName], Field(min_length=1), AfterValidator(distinct)] = ["TE", "NS", "PM", "BH", "PC"]
    images: Count = 100
    """Pictures per method, spread over the test photographs."""
    authentic: Annotated[int, Field(ge=0)] = 0
    """Unforged test pictures, for false alarms and scores of whole pictures."""
    validation: Annotated[int, Field(ge=0)] = 40
    """Forgeries of validation photographs, and as many unforged ones, on which a detector's thresholds are chosen; with
    0 there are none but 0.5."""
    perturbations: Annotated[list[PerturbationName], Field(min_length=1), AfterValidator(distinct)] = ["none"]
    data: str | None = None
    """A dataset to test on instead of forging test photographs: a folder or a list, in any layout of docs/data.md."""
    pooling: Annotated[str, known("poolings")] = "top-0.01"
    """How a map becomes the score of its picture: `max`, `mean`, `top-SHARE` (mean of the highest share of the pixels),
    `share-VALUE` (share of the pixels from that value on) or `p-norm-P`."""
    fractions: Annotated[list[Fraction], Field(min_length=1), AfterValidator(rising)] = [0.01, 0.05, 0.1, 0.25]
    """Bounds between the sizes of masks that are told apart, as shares of the picture."""
    variants: Annotated[list[Annotated[str, known("variants")]], AfterValidator(distinct)] = []
    """Published protocols of scoring (docs/metrics.md) whose numbers stand in a table of their own, under their names:
    iid-net, imdlbenco, trufor, mvss."""
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Resamples of each confidence interval."""
    smallest: Fraction = 0.02
    """The smallest difference between two detectors that matters: what the analysis of power asks for."""
    gallery: Annotated[int, Field(ge=0, le=100)] = 3
    """Pictures per method shown in the report, evenly from the best to the worst: of 3 best, median and worst."""
    map_cache_gigabytes: Annotated[float, Field(ge=0)] = 4.0
    """Disk space for maps, so that no detector looks at a picture twice; 0 keeps none."""
    allow: Annotated[list[Literal["trained-on", "near-duplicate", "threshold-on-test", "partial"]],
                     AfterValidator(distinct)] = []
    """Findings that do not end a benchmark but stand in its report: docs/benchmark.md tells what each means."""

    @property
    def trains(self) -> bool:
        """Whether the protocol says what detectors are trained on."""
        return self.protocol in ("matrix", "leave-one-method-out", "leave-one-kind-out", "ablate")

    @model_validator(mode="after")
    def _trained(self) -> "Benchmark":
        if self.groups and self.protocol != "matrix":
            raise ValueError(f"groups belong to the protocol matrix, not to {self.protocol}")
        if self.protocol == "ablate" and (self.detectors or self.seeds > 1):
            raise ValueError(f"{'detectors' if self.detectors else 'seeds'}: the protocol ablate tests what it trains, "
                             "with as many seeds as ablate.seeds says; leave it away")
        if self.seeds > 1 and not self.trains:
            raise ValueError(f"seeds = {self.seeds}: the protocol {self.protocol} trains nothing; leave seeds away, or "
                             "take matrix, leave-one-method-out or leave-one-kind-out")
        return self


class Ablate(Section):
    """`giidnet ablate`: variants of giidnet that each differ from the full network in one thing, at equal budget."""

    parts: Annotated[list[Literal["streams", "attention", "genotype", "loss", "methods"]], Field(min_length=1),
                     AfterValidator(distinct)] = ["streams", "attention", "genotype", "loss", "methods"]
    """What is changed: each enhancement stream left out, each attention and retrain.anomaly left out, other cells, each
    further term of the loss left out, each of forgeries.methods left out."""
    seeds: Annotated[int, Field(ge=3)] = 3
    """Trainings of each variant, with different weights and order of the pictures."""


class RunConfig(Section):
    """The whole configuration of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = "run"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    stages: Annotated[list[Literal["search", "retrain", "benchmark", "report"]], Field(min_length=1),
                      AfterValidator(distinct)] = ["search", "retrain", "benchmark", "report"]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Time between checkpoints of a running stage: the work that a kill can cost."""
    photos: Photos = Photos()
    forgeries: Forgeries = Forgeries()
    space: Space = Space()
    search: Search = Search()
    retrain: Retrain = Retrain()
    benchmark: Benchmark = Benchmark()
    ablate: Ablate = Ablate()

    @model_validator(mode="after")
    def _unseen(self) -> "RunConfig":
        if not self.search.objective.generalize:
            return self
        if not self.search.objective.methods:
            raise ValueError("search.objective.generalize needs search.objective.methods, which training does not see")
        lists = {"forgeries.methods": self.forgeries.methods, "search.objective.methods": self.search.objective.methods,
                 "benchmark.methods": self.benchmark.methods}
        for (first, ours), (second, theirs) in itertools.combinations(lists.items(), 2):
            if common := [name for name in ours if name in theirs]:
                raise ValueError(f"search.objective.generalize: {', '.join(common)} in both {first} and {second}; "
                                 "training, scores and test each need methods of their own")
        return self

    @model_validator(mode="after")
    def _validated(self) -> "RunConfig":
        methods = self.retrain.validation_methods
        if self.retrain.unseen_validation and not methods:
            raise ValueError("retrain.unseen_validation needs retrain.validation_methods, which training does not see")
        common = [name for name in methods if name in self.forgeries.methods]
        if self.retrain.unseen_validation and common:
            raise ValueError(f"retrain.unseen_validation: {', '.join(common)} in both forgeries.methods and "
                             "retrain.validation_methods; the best epoch is to be chosen on methods not trained on")
        if self.retrain.start and self.benchmark.trains:
            raise ValueError(f"retrain.start: {self.benchmark.protocol} compares trainings from scratch, and what is "
                             "left out of one must not be known by the weights that it starts from; leave it away")
        if methods and self.benchmark.trains:
            raise ValueError(f"retrain.validation_methods: {self.benchmark.protocol} chooses the best epoch of each "
                             "training on its own methods, so that what is left out has no say; leave them away")
        return self
