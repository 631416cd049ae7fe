"""What an ablation trains: the full network, and variants that each differ from it in one thing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from configs.errors import UserError
from configs.schema import RunConfig
from detectors import ATTENTION, STREAMS
from forgeries.methods import canonical, method_name
from results.ablation import FULL
from search_space.genotype import Genotype, SpaceShape, split_parts

NOTHING: Mapping[str, Any] = MappingProxyType({})

TERMS = ("focal", "dice")
"""Terms of the loss beside cross-entropy, each with a weight in the section `retrain`."""


@dataclass(frozen=True)
class Variant:
    """One network of an ablation. `name` is `full` or `<part>-<what is changed>`: the detector's in results.

    `genotype` is trained on forgeries by `methods` (as configured); `loss` has the weights of `TERMS`. `switches` are
    options of `detectors.giidnet.GIIDNet`. `searched`: the search of the run's genotype had a say in it.
    """

    name: str
    genotype: Genotype
    methods: tuple[str, ...]
    loss: Mapping[str, float]
    switches: Mapping[str, Any] = field(default_factory=dict)
    searched: bool = False


def variants(config: RunConfig, genotypes: Mapping[str, Genotype]) -> list[Variant]:
    """`full` and the variants of `config.ablate.parts`, in their order. `genotypes` by name, best first: the first is
    that of the full network and of all variants but those of the part `genotype`; "discovered" is a search's.

    Each variant differs from the full network in one thing. What the full network has not cannot be left out; nor can
    its only stream, or its only method.

    Raises:
        UserError: of the configured parts the full network has nothing to change.
    """
    origin = next(iter(genotypes))
    full = Variant(FULL, genotypes[origin], tuple(config.forgeries.methods),
                   {term: getattr(config.retrain, f"{term}_weight") for term in TERMS}, searched=origin == "discovered")
    makers = {"streams": lambda network: _streams(network, config.retrain.streams),
              "attention": lambda network: _attention(network, config.retrain.anomaly),
              "loss": _loss, "methods": _methods,
              "genotype": lambda network: _genotypes(network, genotypes)}
    found = [replace(variant, name=f"{part}-{variant.name}") for part in config.ablate.parts
             for variant in makers[part](full)]
    if not found:
        raise UserError(f"ablate.parts = [{', '.join(config.ablate.parts)}]: the network has nothing of these that "
                        "could be left out or exchanged; name further parts, or add to forgeries.methods")
    return [full, *found]


def _streams(full: Variant, configured: Sequence[str]) -> Iterator[Variant]:
    there = configured or (split_parts(full.genotype.streams) if full.genotype.streams else STREAMS)
    for name in there if len(there) > 1 else ():
        yield replace(full, name=f"without-{name}", switches={"streams": [other for other in there if other != name]})


def _attention(full: Variant, anomaly: bool) -> Iterator[Variant]:
    for name in split_parts(full.genotype.attention) if full.genotype.attention else ATTENTION:
        yield replace(full, name=f"without-{name}", switches={f"{name}_attention": False})
    if anomaly:
        yield replace(full, name="without-anomaly", switches={"anomaly": False})


def _loss(full: Variant) -> Iterator[Variant]:
    for term in TERMS:
        if full.loss[term]:
            yield replace(full, name=f"without-{term}", loss={**full.loss, term: 0.0})


def _methods(full: Variant) -> Iterator[Variant]:
    """What goes by two names, such as two copies of a method's weights, is left out together."""
    names = {spec: method_name(spec) for spec in full.methods}
    first = {canonical(name): name for name in reversed(names.values())}
    for key, name in reversed(first.items()) if len(first) > 1 else ():
        yield replace(full, name=f"without-{name}",
                      methods=tuple(spec for spec in full.methods if canonical(names[spec]) != key))


def _genotypes(full: Variant, genotypes: Mapping[str, Genotype]) -> Iterator[Variant]:
    """Other cells, all else alike; of two names for the same cells the first."""
    known = {full.genotype.cells}
    for name, genotype in {**genotypes, **hand_designed(full.genotype.space)}.items():
        if genotype.cells not in known:
            known.add(genotype.cells)
            yield replace(full, name=name, **_exchanged(full, genotype))


def _exchanged(full: Variant, other: Genotype) -> dict[str, Any]:
    """The full network's genotype with the cells of another. Streams and attention that the search chose stay, and
    with them what it looked at."""
    base = full.genotype
    if not (base.streams or base.attention):
        return {"genotype": other, "searched": False}
    history = {key: base.provenance[key] for key in ("methods", "methods_scored") if key in base.provenance}
    provenance = {"strategy": other.provenance["strategy"], **history}
    return {"genotype": replace(other, space=replace(other.space, streams=base.space.streams,
                                                     attention=base.space.attention),
                                streams=base.streams, attention=base.attention, provenance=provenance)}


def hand_designed(space: SpaceShape) -> dict[str, Genotype]:
    """Cells that nobody searched, with the widths, strides and dilations of `space`, whatever its operations.

    `separable`: a separable 3×3 convolution in every slot. `residual`: one in the last slot alone, so that a cell is
    the basic block of a residual network (He et al. 2016, figure 5, left): two 3×3 convolutions, here separable as all
    of this space, beside a skip.
    """
    plain = replace(space, operations=("sep3", "identity"), streams=(), attention=())
    cells = {"separable": ("sep3",) * space.slots, "residual": ("identity",) * (space.slots - 1) + ("sep3",)}
    return {name: Genotype((cell,) * space.cells, plain, {"strategy": f"designed by hand: {name}", "methods": []})
            for name, cell in cells.items()}
