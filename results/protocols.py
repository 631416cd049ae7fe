"""Protocols that train: which detectors are trained on which methods, so that tests on the others mean something.

Light to import. What is trained so is tested on all of `benchmark.methods`; what a detector has seen is read
from its provenance, as with every other one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from configs.schema import RunConfig
from forgeries.methods import canonical, family, method_name, same_method
from forgeries.readers import AUTHENTIC, read_by_method
from search_space.genotype import read_genotype, selection_methods


@dataclass(frozen=True)
class Training:
    """One training of a protocol: `trainee` on forgeries by `methods` (names or files, as configured).

    `name` is the detector's in results, the same for all seeds. `group` tells the methods: those trained on (`matrix`),
    the one or the kind left out, or "all". `seed` counts from 0; None where there is only one.
    """

    name: str
    methods: tuple[str, ...]
    group: str
    trainee: str
    seed: int | None = None

    @property
    def folder(self) -> str:
        """Of the checkpoint, below `retrain`."""
        return self.name if self.seed is None else f"{self.name}/seed-{self.seed}"


def plan(config: RunConfig) -> list[Training]:
    """All trainings of the protocol `config.benchmark.protocol`, none for one that trains nothing, nor for `ablate`,
    whose variants are planned by `retrain.variants`.

    `matrix` trains each detector of `retrain.detectors` on each group alone: `<detector>-on-<group>`. The leave-one-out
    protocols train each on all of `forgeries.methods`, `<detector>-on-all`, and on all but one method, or but those of
    one kind: `<detector>-without-<method or kind>`. First come all trainings of the first seed.

    Raises:
        UserError: nothing to leave out, what is left out is not tested, the dataset cannot be read, a file that
            declares a method is wrong, or the search of giidnet's genotype saw methods that its trainings must not see.
    """
    settings = config.benchmark
    if not settings.trains or settings.protocol == "ablate":
        return []
    groups = _groups(config)
    if "giidnet" in config.retrain.detectors and config.retrain.genotype:
        _check_genotype(Path(config.retrain.genotype), groups, settings.protocol)
    elif "giidnet" in config.retrain.detectors:
        raise UserError(f"retrain.detectors: giidnet's cells come from a search on all of forgeries.methods, which "
                        f"{settings.protocol} must not use; leave giidnet away, or name a genotype that was found "
                        "otherwise with retrain.genotype")
    seeds = range(settings.seeds) if settings.seeds > 1 else (None,)
    return [Training(f"{trainee}-{relation}-{group}", methods, group, trainee, seed)
            for seed in seeds for relation, group, methods in groups for trainee in config.retrain.detectors]


def _check_genotype(path: Path, groups: Sequence[tuple[str, str, tuple[str, ...]]], protocol: str) -> None:
    """No search saw a method that a group leaves out, as far as the genotype tells; a missing one is told later."""
    seen = selection_methods(read_genotype(path)) if path.exists() else None
    every = dict.fromkeys(spec for _, _, methods in groups for spec in methods)
    for relation, group, methods in groups:
        for name in (method_name(spec) for spec in every if spec not in methods):
            if any(same_method(name, other) for other in seen or ()):
                raise UserError(f"retrain.genotype = {path}: its search saw {name}, which giidnet-{relation}-{group} "
                                f"of {protocol} must not see; name a genotype that was found on other methods, or "
                                "leave giidnet away")


def _groups(config: RunConfig) -> list[tuple[str, str, tuple[str, ...]]]:
    """("on" or "without", name, methods trained on) of each group."""
    settings, methods = config.benchmark, config.forgeries.methods
    if settings.protocol == "matrix":
        groups = settings.groups or {method_name(spec): [spec] for spec in methods}
        return [("on", name, tuple(specs)) for name, specs in groups.items()]
    label, what = (family, "kind") if settings.protocol == "leave-one-kind-out" else (method_name, "method")
    labels = {spec: label(spec) for spec in methods}
    # What goes by two names, such as two copies of a method's weights, is left out together.
    first = {canonical(name): name for name in reversed(labels.values())}
    labels = {spec: first[canonical(name)] for spec, name in labels.items()}
    parts = list(dict.fromkeys(labels.values()))
    if len(parts) < 2:
        raise UserError(f"forgeries.methods = [{', '.join(methods)}]: {settings.protocol} needs at least two {what}s, "
                        f"not {parts[0]} alone")
    if settings.data:
        given, add, found = f"{settings.data}: holds", "give a dataset that has it", _named(Path(settings.data))
        tested = [family(name) for name in found] if what == "kind" else found
    else:
        given, add, found = "benchmark.methods =", "add it", settings.methods
        tested = [label(spec) for spec in found]
    if untested := [part for part in parts if canonical(part) not in map(canonical, tested)]:
        raise UserError(f"{given} [{', '.join(found)}]: {settings.protocol} leaves out {untested[0]}, which is not "
                        f"tested; {add}")
    left = [("without", part, tuple(spec for spec in methods if labels[spec] != part)) for part in parts]
    return [("on", "all", tuple(methods)), *left]


def _named(data: Path) -> list[str]:
    """Methods that a dataset names."""
    found = [cases[0].method for cases in read_by_method(data).values()]
    return [method for method in found if method not in ("", AUTHENTIC)]
