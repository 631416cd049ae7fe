"""What a run can be told, key by key. `configs.load` reads a YAML file into `RunConfig`.

Names that a registry of a later stage defines (methods, operations, detectors, strategies) are checked against
the lists or by the functions given as validation context, so that nothing here imports those stages.
"""

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


def distinct(value: list[str]) -> list[str]:
    """Accepts a list without repetition."""
    if len(set(value)) < len(value):
        raise ValueError("must name each entry once")
    return value


Fraction = Annotated[float, Field(gt=0, lt=1)]
Width = Annotated[float, Field(gt=0, le=4)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[list[Fraction], Field(min_length=2, max_length=2), AfterValidator(increasing)]
MethodName = Annotated[str, known("methods")]
MaskName = Annotated[str, known("masks")]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Masks = Annotated[
    Annotated[list[MaskName], Field(min_length=1), AfterValidator(distinct), Tag("(list)")]
    | Annotated[dict[MaskName, Weight], Field(min_length=1), Tag("(weights)")],
    Discriminator(lambda value: "(weights)" if isinstance(value, dict) else "(list)")]
"""Tags stand in parentheses: errors tell where they are by them, which is nothing to the user."""
OperationName = Annotated[str, known("operations")]
StrategyName = Annotated[str, known("strategies")]
TraineeName = Annotated[str, known("trainees")]
PerturbationName = Annotated[str, known("perturbations")]
StreamName = Annotated[str, known("streams")]


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

    methods: Annotated[list[MethodName], Field(min_length=1), AfterValidator(distinct)] = ["TE", "PM"]
    masks: Masks = ["rectangle", "stroke", "blob"]
    """A list, of which one is drawn uniformly for each picture, or weights by kind: `{rectangle: 2, text: 1}`."""
    mask_fraction: Range = Field(default=[0.04, 0.25])
    image_size: Annotated[int, Field(ge=16, multiple_of=8)] = 128
    perturbations: Annotated[list[PerturbationName], Field(min_length=1)] = ["none"]
    """One is drawn, uniformly, for each picture."""
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

    @model_validator(mode="after")
    def _one_per_cell(self) -> "Space":
        for key in ("channels", "strides", "dilations"):
            entries = getattr(self, key)
            if len(entries) != self.cells:
                raise ValueError(f"{key} has {len(entries)} entries for cells = {self.cells}; give one per cell")
        return self


class Search(Section):
    """How the supernet is trained and the genotype chosen."""

    strategy: StrategyName = "one-shot"
    streams: Annotated[list[StreamName], Field(min_length=1), AfterValidator(distinct)] = ["plain"]
    """Streams of the supernet's enhancement block; the paper's supernet has the plain one only."""
    epochs: Count = 10
    steps: Count = 100
    """Steps of an epoch."""
    batch_size: Count = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    architecture_learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """For the architecture weights of differentiable strategies."""
    candidates: Count = 1000
    """Architectures that are scored after the supernet's training, where the strategy samples them."""
    validation_images: Count = 100
    recalibration_batches: Annotated[int, Field(ge=0)] = 4
    """Training batches from which each candidate's batch-norm statistics are taken anew; 0 keeps the supernet's."""
    latency: bool = False
    """Measure each candidate's latency. Off by default: a measured time differs from run to run."""


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


class Retrain(Section):
    """How detectors are trained, all at the same budget."""

    detectors: Annotated[list[TraineeName], Field(min_length=1), AfterValidator(distinct)] = \
        ["giidnet", "giidnet-random", "giidnet-released", "mantranet"]
    genotype: str | None = None
    """A genotype file; by default the one that this run's search found."""
    width: Width = 1.0
    widths: dict[TraineeName, Width] = {}
    """Widths of single detectors, where they differ from `width`."""
    epochs: Count = 40
    steps: Count = 500
    """Steps of an epoch; validation after each."""
    batch_size: Count = 24
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    focal_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the focal term beside binary cross-entropy."""
    validation_images: Count = 200
    pretrain: Pretrain = Pretrain()


class Benchmark(Section):
    """What detectors are tested on."""

    detectors: list[str] = []
    """Checkpoints (`model.safetensors` or its folder); by default all that this run retrained."""
    methods: Annotated[list[MethodName], Field(min_length=1), AfterValidator(distinct)] = ["TE", "NS", "PM", "BH", "PC"]
    images: Count = 100
    """Pictures per method, spread over the test photographs."""
    perturbations: Annotated[list[PerturbationName], Field(min_length=1), AfterValidator(distinct)] = ["none"]
    data: str | None = None
    """A dataset to test on instead of forging test photographs: a folder or a list, in any layout of docs/data.md."""
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    """Resamples of each confidence interval."""
    gallery: Annotated[int, Field(ge=0)] = 2
    """Pictures per method shown in the report."""


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
