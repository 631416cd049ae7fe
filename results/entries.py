"""What is tested: detectors, each with its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from configs.errors import UserError
from detectors.sources import Source, open_source


@dataclass(frozen=True, eq=False)
class Entry:
    """A line of the tables: a detector, one of its seeds ("" where it has none), and how it is run."""

    name: str
    seed: str
    spec: str
    source: Source

    @property
    def label(self) -> str:
        """Names a folder, and people read it."""
        return f"{self.name} seed {self.seed}" if self.seed else self.name


def open_entries(specs: Sequence[str], baselines: Sequence[str], folder: Path, device: str) -> list[Entry]:
    """The detectors that `specs` name; by default all that were retrained in `folder`, and `baselines`.

    Raises:
        UserError: there is none, one cannot be opened, or two have one name that nobody gave them.
    """
    given = [(spec, "=" in spec) for spec in specs]
    if not given:
        for path in sorted((folder / "retrain").glob("*/model.safetensors")):
            given.append((str(path.parent), False))
        for path in sorted((folder / "retrain").glob("*/seed-*/model.safetensors")):
            given.append((f"{path.parent.parent.name}={path.parent}", True))
    if not given:
        raise UserError(f"{folder}: no retrained detector there; run retrain first, or name detectors with --detectors "
                        "('giidnet list detectors' shows those that need no weights)")
    given += [(spec, False) for spec in baselines if not specs]
    opened = [(spec, named, open_source(spec, device)) for spec, named in given]
    entries: list[Entry] = []
    for name, group in groupby(sorted(opened, key=lambda one: one[2].name), key=lambda one: one[2].name):
        found = list(group)
        if len(found) > 1 and not all(named for _, named, _ in found):
            raise UserError(f"benchmark.detectors: two checkpoints are called {name}; give names as in "
                            f"first={found[0][0]}, the same name for seeds of one detector")
        _check_seeds(name, [source for _, _, source in found])
        seeds = [(source.provenance.get("protocol") or {}).get("training_seed", source.seed) for _, _, source in found]
        labels = [str(seed) for seed in seeds] if None not in seeds and len(set(seeds)) == len(seeds) \
            else [str(number) for number in range(len(found))]
        entries += [Entry(name, seed if len(found) > 1 else "", spec, source)
                    for (spec, _, source), seed in zip(found, labels, strict=True)]
    order = {source.name: place for place, (_, _, source) in reversed(list(enumerate(opened)))}
    return sorted(entries, key=lambda entry: (order[entry.name], entry.seed))


def _check_seeds(name: str, sources: Sequence[Source]) -> None:
    """Those of one name differ by the seed alone, as far as they tell.

    Raises:
        UserError: they do not.
    """
    if len({source.digest for source in sources if source.digest}) < sum(bool(source.digest) for source in sources):
        raise UserError(f"benchmark.detectors: two of those called {name} are the same; name each once")
    kinds = {(source.detector, source.parameters, tuple(source.provenance["methods"] or ())) for source in sources}
    if len(kinds) > 1:
        raise UserError(f"benchmark.detectors: those called {name} are of different networks or training methods, and "
                        "so no seeds of one detector; give them names of their own")
