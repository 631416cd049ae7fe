"""The command line. Heavy imports wait until a command needs them, so that usage errors answer at once."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from configs.errors import UserError
from configs.files import locked, make_folder, write_atomic, write_rows
from configs.load import differences, dump_config, list_presets, load_config

if TYPE_CHECKING:
    from torch import nn

    from configs.load import Names
    from configs.schema import RunConfig
    from detectors.checkpoints import LoadedDetector
    from forgeries.photos import PhotoSet

PHOTOS = ("split", "name", "source", "digest", "hash", "path", "reason")
SHOWN = 5
"""Skipped photographs that are named on the terminal."""

LEAST_TILE = 128
"""Smallest side of a tile: less is overlap for the most part."""

CONTINUED = {**dict.fromkeys(("run", "search", "rank-study", "retrain", "benchmark", "ablate"),
                             "; --resume continues"),
             **dict.fromkeys(("synthesize", "train-inpainter", "tune"), "; the same command continues")}
"""What is said when a command is interrupted; nothing of the others."""


class FiniteRange(click.FloatRange):
    """Click's range lets nan pass, and inf where it is open."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails where it is none."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


def registries() -> "Names":
    """The names that a configuration may use, by kind."""
    from detectors import FURTHER_STREAMS, STREAMS
    from forgeries.masks import check_kind
    from forgeries.methods import check_method
    from forgeries.perturbations import check_name
    from results.pooling import check_pooling
    from results.records import VARIANTS
    from retrain import list_trainees
    from search import list_strategies
    from search_space import list_operations
    return {"poolings": check_pooling, "variants": VARIANTS, "methods": check_method, "masks": check_kind,
            "perturbations": check_name, "operations": list_operations(), "strategies": list_strategies(),
            "trainees": list_trainees(), "streams": [*STREAMS, *FURTHER_STREAMS]}


def _run_stage(name: str, config: "RunConfig", folder: Path, photos: "PhotoSet | None") -> None:
    if name == "benchmark":
        from results.benchmark import run_benchmark
        run_benchmark(config, folder, photos)
    elif photos and name == "search":
        from results.board import write_board
        from search.stage import run_search
        run_search(config, folder, photos)
        write_board(folder)
    elif photos and name == "retrain":
        if config.benchmark.protocol == "ablate":
            from retrain.ablate import run_ablation as train
        elif config.benchmark.trains:
            from retrain.protocols import run_trainings as train
        else:
            from retrain.stage import run_retrain as train
        train(config, folder, photos)
    else:
        from results.board import write_board
        from results.report import write_report
        write_report(folder)
        write_board(folder)


def _product(name: str, folder: Path) -> Path:
    """The file that a finished stage leaves last."""
    return folder / {"search": "search/genotype.yaml", "retrain": "retrain/.finished",
                     "benchmark": "results/summary.csv", "report": "results/report.html"}[name]


def _finished(name: str, folder: Path) -> bool:
    """Whether nothing of a stage is left to do; parts of a benchmark are kept until it is complete."""
    return _product(name, folder).exists() and not (name == "benchmark" and (folder / "results" / "parts").exists())


def run(config: "RunConfig", stages: tuple[str, ...], folder: Path, resume: bool) -> None:
    """Runs `stages` in the run folder, or with `resume` those parts of them that are not finished. Before a benchmark
    whose protocol trains comes the retraining.

    Of several processes (torchrun) the first does that; the others take part in the search, the retraining or the
    benchmark.

    Raises:
        UserError: the folder is in use, holds a run of another configuration, or has results and `resume` is off;
            several processes for more than one of search, retraining and benchmark.
    """
    if config.benchmark.trains and not (config.benchmark.detectors or "retrain" in stages
                                        or _product("retrain", folder).exists()):
        stages = tuple(part for name in stages for part in (("retrain", name) if name == "benchmark" else (name,)))
    if stages not in (("search",), ("retrain",), ("benchmark", "report")):
        _check_alone(", ".join(stages))
    _check_methods(config, stages)
    if _variable("RANK", 0):
        if not _finished(stages[0], folder):
            from forgeries.photos import find_photos
            _run_stage(stages[0], config, folder, find_photos(config.photos, config.forgeries.image_size)
                       if _needs_photos(config, stages) else None)
        return
    make_folder(folder)
    with locked(folder):
        saved = folder / "config.yaml"
        if saved.exists() and any(_started(name, folder) for name in ("search", "retrain", "benchmark")):
            _check_same(config, folder)
        started = [name for name in stages if _started(name, folder)]
        if started and not resume:
            raise UserError(f"{folder}: already holds a {started[0]}; add --resume to continue it, "
                            "or name another --out")
        write_atomic(saved, dump_config(config))
        pending = [name for name in stages if name == "report" or not _finished(name, folder)]
        photos = _photos(config, folder) if _needs_photos(config, pending) else None
        if "search" in stages and "search" not in pending:
            # A kill may come between the last file of a search and its end.
            from results.board import write_board
            from search import remove_leftovers
            remove_leftovers(folder)
            write_board(folder)
        for name in pending:
            click.echo(f"── {name}", err=True)
            _run_stage(name, config, folder, photos)
            if name == "retrain":
                write_atomic(_product(name, folder), "")
    if "search" in stages:
        _tell_search(config, folder)
    if "benchmark" in stages or "report" in stages:
        from results.tables import closing_table
        click.echo(closing_table(folder))
    if "report" in stages:
        click.echo(f"Report: {(folder / 'results' / 'report.html').resolve()}")
    else:
        click.echo(f"Results: {folder.resolve()}")


def _needs_photos(config: "RunConfig", stages: Iterable[str]) -> bool:
    """Whether one of the stages takes photographs; a benchmark of a dataset does for its thresholds alone."""
    benchmark = {"benchmark"} if config.benchmark.validation or not config.benchmark.data else set()
    return bool(({"search", "retrain"} | benchmark) & set(stages))


def _variable(name: str, default: int) -> int:
    """What torchrun tells its processes."""
    return int(os.environ.get(name, default))


def _check_alone(what: str) -> None:
    """That torchrun started no other process.

    Raises:
        UserError: it did.
    """
    if _variable("WORLD_SIZE", 1) > 1:
        raise UserError(f"{what}: only search, retrain and benchmark run on several processes, each as a command of "
                        "its own; start 'giidnet search', 'retrain' or 'benchmark' with torchrun and the rest without")


def _check_same(config: "RunConfig", folder: Path) -> None:
    """The run in `folder` is of this configuration; only a rank study may be set anew for a search that is there, the
    comparison with random genotypes while it goes on, and what a benchmark is allowed.

    Raises:
        UserError: it is not.
    """
    from configs.schema import Check, RankStudy
    free: dict[str, Any] = {"rank_study": RankStudy()}
    if not _product("search", folder).exists():
        free["check"] = Check()
    there, here = (ours.model_copy(update={"search": ours.search.model_copy(update=free),
                                           "benchmark": ours.benchmark.model_copy(update={"allow": []})})
                   for ours in (load_config(folder / "config.yaml", names=registries()), config))
    if found := differences(there, here):
        raise UserError(f"{folder}: holds a run of another config ({'; '.join(found[:3])}); name another --out")


def _tell_search(config: "RunConfig", folder: Path) -> None:
    """Whether the search found something."""
    from configs.files import read_rows
    from results.ranking import against_random
    if found := against_random(read_rows(folder / "search" / "alone.csv"), config.search.objective.metric):
        click.echo(found.text)


def _check_methods(config: "RunConfig", stages: tuple[str, ...]) -> None:
    """Methods that files declare can be used, no name stands for two of them, and the protocol can be trained.

    Raises:
        UserError: see `forgeries.methods.method_names` and `results.protocols.plan`.
    """
    from forgeries.methods import method_names
    from results.protocols import plan
    used = config.forgeries.methods if {"search", "retrain"} & set(stages) else []
    scored = config.search.objective.methods if "search" in stages else []
    validated = config.retrain.validation_methods if "retrain" in stages else []
    tested = config.benchmark.methods if "benchmark" in stages and not config.benchmark.data else []
    trainings = plan(config) if "retrain" in stages else []
    method_names(dict.fromkeys([*used, *scored, *validated, *tested,
                                *(spec for each in trainings for spec in each.methods)]))


def _photos(config: "RunConfig", folder: Path) -> "PhotoSet":
    """The photographs; says how many there are, and lists them with their split, or why not, in `photos.csv`."""
    from forgeries.photos import find_photos
    photos = find_photos(config.photos, config.forgeries.image_size)
    splits = {"train": photos.train, "val": photos.val, "test": photos.test}
    rows = [{"split": split, "name": photo.name, "source": photo.source, "digest": photo.digest,
             "hash": f"{photo.hash:016x}", "path": photo.path}
            for split, found in splits.items() for photo in found]
    write_rows(folder / "photos.csv", PHOTOS, [*rows, *({"split": "skipped", "name": path.stem, "path": path,
                                                         "reason": reason} for path, reason in photos.skipped)])
    counts = ", ".join(f"{len(found)} {split}" for split, found in splits.items())
    click.echo(f"photographs: {counts}, {len(photos.skipped)} skipped", err=True)
    _tell_skipped(photos.skipped, f", see {folder / 'photos.csv'}")
    return photos


def _tell_skipped(skipped: "tuple[tuple[Path, str], ...]", where: str = "") -> None:
    for path, reason in skipped[:SHOWN]:
        click.echo(f"  skipped {path}: {reason}", err=True)
    if len(skipped) > SHOWN:
        click.echo(f"  and {len(skipped) - SHOWN} more{where}", err=True)


def _started(name: str, folder: Path) -> bool:
    """Whether a stage left anything; a report alone can be written again."""
    places = {"search": ["search"], "retrain": ["retrain"], "benchmark": ["results/parts", "results/records.csv"]}
    return any((folder / place).exists() for place in places.get(name, ()))


def _configure(source: str | None, out: Path | None, overrides: tuple[str, ...],
               **options: Any) -> tuple["RunConfig", Path]:
    """The configuration and the run folder. A folder that has a configuration is continued with it."""
    extra = [f"{key}={_yaml(value)}" for key, value in options.items() if value]
    if source is None and out is not None and (out / "config.yaml").exists():
        source = str(out / "config.yaml")
    config = load_config(source or "quick", [*overrides, *extra], registries())
    return config, out or Path("runs") / config.name


def _yaml(value: Any) -> str:
    import json
    return json.dumps(list(value) if isinstance(value, tuple) else str(value))


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """--config, --out, --resume and overrides."""
    for decorate in (
        click.argument("overrides", nargs=-1, metavar="[section.key=value]..."),
        click.option("--resume", is_flag=True, help="Continue a run that was interrupted."),
        click.option("--out", type=click.Path(path_type=Path), help="Run folder; default runs/<name>."),
        click.option("--config", "source", metavar="FILE|PRESET", help="YAML file or preset; default quick."),
    ):
        command = decorate(command)
    return command


def device_option(command: Callable[..., None]) -> Callable[..., None]:
    """--device."""
    return click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
                        help="Where networks run.")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="giidnet")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Find inpainted regions in photographs: search, retrain, benchmark, detect."""


@cli.command("run")
@config_options
def run_command(source: str | None, out: Path | None, resume: bool, overrides: tuple[str, ...]) -> None:
    """Run all stages that the config lists."""
    config, folder = _configure(source, out, overrides)
    run(config, tuple(config.stages), folder, resume)


@cli.command()
@config_options
def search(source: str | None, out: Path | None, resume: bool, overrides: tuple[str, ...]) -> None:
    """Find a genotype: search/genotype.yaml, candidates.csv."""
    config, folder = _configure(source, out, overrides)
    run(config, ("search",), folder, resume)


@cli.command("search-worker")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder of the search to help.")
def search_worker(out: Path) -> None:
    """Score candidates for a search with search.storage, here or on another machine, until it has all scores.

    Any number of workers may join and leave at any time.
    """
    if not (out / "config.yaml").exists():
        raise UserError(f"{out}: no run there (no config.yaml); start the search first")
    config = load_config(out / "config.yaml", names=registries())
    from configs.engine import pick_device
    from forgeries.photos import find_photos
    from search.stage import assist
    assist(config, out, find_photos(config.photos, config.forgeries.image_size), pick_device(config.device))


@cli.command("rank-study")
@config_options
def rank_study(source: str | None, out: Path | None, resume: bool, overrides: tuple[str, ...]) -> None:
    """Test whether inherited scores rank architectures as training alone does: search/rank_study.csv.

    Searches first where the run folder holds no finished search. search.rank_study.* may differ from what the search
    was started with: what was trained alone is kept.
    """
    config, folder = _configure(source, out, overrides)
    _check_alone("rank-study")
    from search.rank_study import check_study, run_rank_study
    check_study(config)
    if not _product("search", folder).exists():
        run(config, ("search",), folder, resume)
    with locked(folder):
        _check_same(config, folder)
        if (folder / "search" / "rank_study_alone.csv").exists() and not resume:
            raise UserError(f"{folder}: already holds a rank study; add --resume to continue or extend it")
        click.echo("── rank study", err=True)
        study = run_rank_study(config, folder, _photos(config, folder))
        from results.board import write_board
        write_board(folder)
    click.echo(study.table())
    click.echo(f"Results: {(folder / 'search' / 'rank_study.csv').resolve()}")


@cli.command()
@click.option("--genotype", type=click.Path(), help="Genotype file; default the run's own.")
@config_options
def retrain(source: str | None, out: Path | None, resume: bool, overrides: tuple[str, ...],
            genotype: str | None) -> None:
    """Train the discovered network and the baselines."""
    config, folder = _configure(source, out, overrides, **{"retrain.genotype": genotype})
    run(config, ("retrain",), folder, resume)


@cli.command()
@click.option("--config", "source", metavar="FILE|PRESET", help="YAML file or preset; default the run's own, or quick.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; default runs/<name>.")
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1), help="Of all workers, whatever their "
              "end.")
@click.option("--storage", metavar="URL", help="sqlite:///FILE, journal:FILE or postgresql://…; default "
              "sqlite:///tune/study.db in the run folder.")
@click.option("--detector", metavar="NAME", help="What is trained; default the first of retrain.detectors.")
@click.option("--genotype", type=click.Path(), help="Genotype file; default the run's own.")
@click.option("--pruner", type=click.Choice(["median", "halving", "none"]), default="median", show_default=True,
              help="Which trials are ended early, by the validation AUC after each epoch.")
@click.argument("words", nargs=-1, metavar="[section.key=RANGE|section.key=value]...")
def tune(source: str | None, out: Path | None, trials: int, storage: str | None, detector: str | None,
         genotype: str | None, pruner: str, words: tuple[str, ...]) -> None:
    """Tune how a detector is trained: tune/best.yaml. A RANGE is LOW..HIGH, log:LOW..HIGH or choice:A,B.

    The same command continues what was interrupted, and joins as a further worker what is running.
    """
    _check_alone("tune")
    from retrain.ranges import split_ranges
    ranges, overrides = split_ranges(words)
    config, folder = _configure(source, out, overrides, **{"retrain.genotype": genotype})
    from retrain.tune import STORAGE, make_tuning, run_tuning
    tuning = make_tuning(config, ranges, folder, registries(), detector, pruner)
    from forgeries.photos import find_photos
    photos = find_photos(config.photos, config.forgeries.image_size)
    click.echo(run_tuning(tuning, folder, photos, trials, storage or STORAGE))
    click.echo(f"Results: {(folder / 'tune').resolve()}")


@cli.command()
@click.option("--detectors", multiple=True, metavar="[NAME=]SPEC...", help="Checkpoints and whatever else "
              "docs/detectors.md lists: --detectors A B.")
@click.option("--data", type=click.Path(), help="Dataset to test on, in any layout of docs/data.md.")
@config_options
def benchmark(source: str | None, out: Path | None, resume: bool, overrides: tuple[str, ...],
              detectors: tuple[str, ...], data: str | None) -> None:
    """Score detectors on forged test photographs or on --data: results/report.html and the files behind it."""
    from configs.schema import RunConfig
    # `--detectors A B` as the contract writes it: further names come as arguments, and NAME=FILE is one of them.
    keys = [word for word in overrides if "=" in word and re.split("[.=]", word)[0] in RunConfig.model_fields]
    names = tuple(word for word in overrides if word not in keys)
    config, folder = _configure(source, out, tuple(keys),
                                **{"benchmark.detectors": detectors + names, "benchmark.data": data})
    run(config, ("benchmark", "report"), folder, resume)


@cli.command()
@click.option("--genotype", type=click.Path(), help="Genotype file of the full network; default the run's own.")
@config_options
def ablate(source: str | None, out: Path | None, resume: bool, overrides: tuple[str, ...],
           genotype: str | None) -> None:
    """Train variants of the network, each with one thing left out or exchanged, and benchmark them against the full
    one: results/ablation.csv and the report. ablate.parts says what is changed, ablate.seeds how often each is trained.
    """
    config, folder = _configure(source, out, overrides, **{"retrain.genotype": genotype,
                                                           "benchmark.protocol": "ablate"})
    run(config, ("benchmark", "report"), folder, resume)
    from configs.files import read_rows
    from results.ablation import closing_lines
    click.echo("\n".join(closing_lines(read_rows(folder / "results" / "ablation.csv"))))


@cli.command()
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1)
@click.option("--out", type=click.Path(path_type=Path),
              help="Run folder, as an option; of several runs the leaderboard's folder, default ./leaderboard.")
def report(folders: tuple[Path, ...], out: Path | None) -> None:
    """Write results/report.html of a run folder, or a leaderboard of several."""
    if len(folders) > 1:
        from results.leaderboard import write_leaderboard
        click.echo(f"Leaderboard: {write_leaderboard(folders, out or Path('leaderboard')).resolve()}")
        return
    folder = next(iter(folders), out or Path("runs/quick"))
    if not (folder / "config.yaml").exists():
        raise UserError(f"{folder}: no run there (no config.yaml)")
    config, _ = _configure(None, folder, ())
    run(config, ("report",), folder, resume=True)


@cli.command()
@click.option("--photos", "photos", required=True, type=click.Path(path_type=Path), help="Folder of photographs.")
@click.option("--methods", multiple=True, required=True, help="Inpainting methods: --methods TE NS.")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--count", default=100, show_default=True, type=click.IntRange(1), help="Pictures per method.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(16), help="Side of a picture.")
@click.option("--masks", multiple=True, metavar="KIND[=WEIGHT]", help="Kind of mask, see 'giidnet list masks'; "
              "repeatable, default all with equal weights.")
@click.option("--fraction", nargs=2, default=(0.04, 0.25), show_default=True, type=FiniteRange(0, 1, True, True),
              help="Least and largest share of a picture that is painted.")
@click.option("--perturb", multiple=True, default=["none"], metavar="CHAIN", help="What is done after forging, such "
              "as resize-0.75+jpeg-60..95, see 'giidnet list perturbations'; of several one is drawn.")
@click.option("--shrink", nargs=2, default=(0.5, 0.75), show_default=True, type=FiniteRange(0, 1, True),
              help="Factors that photographs are scaled down by; 1 1 keeps their own scale.")
@click.option("--jobs", type=click.IntRange(0), help="Processes; default one for each core.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.argument("more_methods", nargs=-1, metavar="[METHOD]...")
def synthesize(photos: Path, methods: tuple[str, ...], more_methods: tuple[str, ...], out: Path, count: int,
               size: int, masks: tuple[str, ...], fraction: tuple[float, float], perturb: tuple[str, ...],
               shrink: tuple[float, float], jobs: int | None, seed: int) -> None:
    """Write a forged dataset: <METHOD>/{images,masks,originals}, manifest.csv and a data card.

    The same command continues one that was interrupted, and the same arguments give the same bytes.
    """
    names = tuple(dict.fromkeys(methods + more_methods))
    from forgeries import list_masks
    from forgeries.methods import method_names
    method_names(names)
    if fraction[0] > fraction[1] or shrink[0] > shrink[1]:
        raise UserError("--fraction and --shrink: must be the lower value, then the higher one")
    kinds = dict(map(_weighed, masks)) or dict.fromkeys(list_masks(), 1.0)
    from forgeries.perturbations import expand
    chains = tuple(expand(perturb))
    if not photos.exists():
        raise UserError(f"{photos}: no such folder of photographs")
    if out.resolve().is_relative_to(photos.resolve()):
        raise UserError(f"--out {out}: lies in --photos, where forged pictures would be taken for photographs; name "
                        "another folder")
    make_folder(out)
    from forgeries.dataset import Recipe
    from forgeries.photos import scan
    from forgeries.synthesize import synthesize as write
    recipe = Recipe(names, tuple(kinds), fraction, size, chains, shrink if shrink != (1, 1) else None,
                    tuple(kinds.values()) if len(set(kinds.values())) > 1 else None)
    with locked(out):
        found = scan([photos], size)
        click.echo(f"photographs: {len(found.photos)}, {len(found.skipped)} skipped", err=True)
        _tell_skipped(found.skipped)
        written = write(found.photos, out, recipe, seed, count, len(os.sched_getaffinity(0)) if jobs is None else jobs)
    click.echo(f"{written} pictures: {out.resolve() / 'manifest.csv'}")


def _weighed(word: str) -> tuple[str, float]:
    """Kind and weight of KIND or KIND=WEIGHT.

    Raises:
        UserError: unknown kind, or no positive number.
    """
    from forgeries.masks import check_masks
    kind, equals, weight = word.rpartition("=")
    try:
        value = float(weight) if equals else 1.0
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise UserError(f"--masks {word}: the weight, after the last =, must be a positive number")
    check_masks(kind if equals else word)
    return kind if equals else word, value


@cli.command("train-inpainter")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--photos", "photos", multiple=True, required=True, type=click.Path(path_type=Path),
              help="Folder of photographs; repeatable.")
@click.option("--held-out", "held_out", multiple=True, type=click.Path(path_type=Path),
              help="Folder of photographs to validate on; default a tenth of --photos.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("weights/inpainters"), show_default=True)
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1))
@click.option("--steps", default=250, show_default=True, type=click.IntRange(1), help="Steps of an epoch.")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1))
@click.option("--learning-rate", default=2e-3, show_default=True, type=FiniteRange(0, min_open=True))
@click.option("--size", default=64, show_default=True, type=click.IntRange(32), help="Side of the squares.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option("--network", type=click.Choice(["coder", "gated"]), help="What a NAME of yours is; default coder.")
@click.option("--up", type=click.Choice(["transposed", "pixel-shuffle", "nearest", "bilinear"]))
@click.option("--depth", type=click.IntRange(1, 5), help="Halvings of the picture's sides.")
@click.option("--width", type=click.IntRange(1), help="Channels at full size.")
@click.option("--latent", type=click.IntRange(1), help="Channels of a coder's narrowest place.")
@click.option("--kernel", type=click.Choice(["3", "5", "7"]))
@click.option("--activation", type=click.Choice(["relu", "leaky", "elu", "gelu", "silu"]))
@click.option("--loss", type=click.Choice(["l1", "l2", "laplacian", "fourier"]))
@click.option("--adversarial", type=FiniteRange(0), help="Weight of a critic's loss; 0 has none.")
@device_option
def train_inpainter(names: tuple[str, ...], photos: tuple[Path, ...], held_out: tuple[Path, ...], out: Path,
                    epochs: int, steps: int, batch_size: int, learning_rate: float, size: int, seed: int,
                    device: str, **shape: Any) -> None:
    """Train networks that paint, from photographs; NAME.safetensors is then the name of a method.

    NAMEs are learned methods of this project (default all of them), or one of yours, whose shape the options from
    --network on tell.
    """
    shape = {key: int(value) if key == "kernel" else value for key, value in shape.items() if value is not None}
    from forgeries import list_methods
    from forgeries.methods.learned import SPECS, Spec
    from forgeries.methods.method import NAME
    own = [name for name in names if name not in SPECS]
    if own and (len(names) > 1 or not shape):
        raise UserError(f"'{own[0]}': known are {', '.join(SPECS)}; a network of yours is trained alone, and its shape "
                        "is given, such as --up nearest")
    if shape and not own:
        raise UserError(f"{', '.join(names) or 'all methods'}: the shape is given already; for --{next(iter(shape))} "
                        "choose another name")
    if shape.get("network") == "gated" and "latent" in shape:
        raise UserError("--latent: a gated network has none; leave it away, or take --network coder")
    if own and (not re.fullmatch(NAME, own[0]) or own[0] in list_methods()):
        raise UserError(f"'{own[0]}': must be letters, digits, _ . + - (40 at most), and not the name of a method")
    specs = {own[0]: Spec(**shape)} if own else {name: SPECS[name] for name in names or SPECS}
    for name, spec in specs.items():
        if size % spec.multiple:
            raise UserError(f"--size {size}: must be a multiple of {spec.multiple}, as {name} halves sides "
                            f"{spec.depth} times")
    for place in (*photos, *held_out):
        if not place.exists():
            raise UserError(f"{place}: no such folder of photographs")
    make_folder(out)
    from configs.schema import RunConfig
    from forgeries.photos import hold_out, scan
    from retrain.inpainters import Budget
    from retrain.inpainters import train_inpainter as train
    with locked(out):
        train_photos, held = hold_out(scan(photos, size).photos, scan(held_out, size).photos if held_out else ())
        click.echo(f"photographs: {len(train_photos)} train, {len(held)} held out", err=True)
        budget = Budget(epochs, steps, batch_size, learning_rate, size)
        for name, spec in specs.items():
            path = out / f"{name}.safetensors"
            config = RunConfig(seed=seed, device=device)  # type: ignore[arg-type]
            quality = train(name, spec, budget, config, train_photos, held, path)
            click.echo(f"{name}: {quality:.1f} dB in held-out holes: {path.resolve()}")


@cli.group("data")
def data_group() -> None:
    """Datasets on disk."""


@data_group.command("check")
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option("--layout", default="auto", show_default=True, metavar="NAME", help="Layout, see docs/data.md.")
@click.option("--root", type=click.Path(path_type=Path), help="Where relative paths in lists start from, if not from "
              "the list's folder; default the working directory.")
@click.option("--sample", type=click.IntRange(1), help="Look into this many pictures only, spread evenly.")
def check_command(places: tuple[Path, ...], layout: str, root: Path | None, sample: int | None) -> None:
    """Look into every picture and mask of datasets, and for pictures that several of them hold.

    DIR is a folder or a list, in any layout of docs/data.md.
    """
    from forgeries.check import check_dataset, compare_datasets
    from forgeries.readers import read_dataset
    from forgeries.tables import show_reports
    reports = [check_dataset(read_dataset(place, layout, root), sample) for place in places]
    between = compare_datasets(reports)
    show_reports(reports, between)
    problems = [*between, *(problem for report in reports for problem in report.problems)]
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        raise UserError(f"{', '.join(map(str, places))}: {errors} error{'s' * (errors > 1)}, see 'what to do' above")


@cli.command("list")
@click.argument("what", type=click.Choice(["methods", "masks", "perturbations", "detectors", "strategies", "space",
                                       "presets"]))
@click.argument("further", nargs=-1, metavar="[METHOD|section.key=value]...")
@click.option("--config", "source", metavar="FILE|PRESET", help="Of the space: whose; default quick.")
@click.option("--preview", type=click.Path(path_type=Path), metavar="FILE.png",
              help="Of methods: a picture of what each does to one hole.")
@click.option("--photo", type=click.Path(path_type=Path), help="The preview's photograph; default one of scikit-image.")
@click.option("--mask", default="blob", show_default=True, help="Kind of the preview's hole.")
def list_command(what: str, further: tuple[str, ...], source: str | None, preview: Path | None, photo: Path | None,
                 mask: str) -> None:
    """List what can be named; METHODs beside the known ones are adapters or files of weights.

    list space shows what a config's search chooses from, how many genotypes that makes, and what they cost.
    """
    if what == "space" and not preview:
        config = load_config(source or "quick", further, registries())
        from search.tables import show_space
        show_space(config)
        return
    if source:
        raise UserError(f"list {what}: --config belongs to list space")
    if what != "methods" and (preview or further):
        raise UserError(f"list {what}: --preview and further names belong to list methods")
    if preview:
        if preview.suffix.lower() != ".png" or preview.is_dir():
            raise UserError(f"{preview}: must end in .png and be no folder")
        from forgeries.masks import check_masks
        check_masks(mask)
        make_folder(preview.parent)
        from forgeries.methods import list_methods
        from forgeries.preview import draw_preview, preview_case
        write_atomic(preview, draw_preview(*preview_case(photo, mask), [*list_methods(), *further]))
        click.echo(f"{preview.resolve()}")
        return
    if what == "methods":
        from forgeries.methods import find_method, list_methods
        from forgeries.tables import show_methods
        show_methods(find_method(name) for name in (*list_methods(), *further))
        return
    if what == "masks":
        from forgeries.masks import FILES, MASKS
        found = {name: mask.title for name, mask in MASKS.items()}
        found[f"{FILES}FOLDER"] = "pictures of a folder, white where to inpaint, at the size and area asked for"
    elif what == "perturbations":
        from forgeries.perturbations import GRID, GRIDS, OPERATIONS
        found = {"none": "the picture as it was forged"}
        found |= {name: f"{operation.meaning} ({operation.values})" for name, operation in OPERATIONS.items()}
        found |= {f"{GRID}{name}": ", ".join(chains) for name, chains in GRIDS.items()}
    elif what == "detectors":
        found = _detectors()
    elif what == "strategies":
        from search import STRATEGIES
        found = {name: text for name, (_, text) in STRATEGIES.items()}
    else:
        found = list_presets()
    width = max(map(len, found))
    for name, text in found.items():
        click.echo(f"{name:{width}}  {text}")


def _detectors() -> dict[str, str]:
    """What each detector is, by name, and which weights come with it."""
    from detectors import DETECTORS, WEIGHTLESS
    from detectors.places import read_description, shipped
    found = {name: text + "; needs no weights" * (name in WEIGHTLESS) for name, (_, text) in DETECTORS.items()}
    for name, path in shipped().items():
        about = read_description(path)
        assert about
        text = found.get(name, f"{about['detector']} of another size")
        found[name] = f"{text}; comes with weights: {about['parameters']:,} parameters, " \
                      f"{path.stat().st_size / 1e6:.1f} MB"
    return found


def _checkpoints(detectors: tuple[str, ...], weights: tuple[Path, ...]) -> list[tuple[str | None, Path | None]]:
    """(name, checkpoint) of each network to run: given weights, or the default ones of named detectors, which
    baselines have not (None). Says which default weights are taken.

    Without a name (None), a checkpoint of this project says itself what it is of.

    Raises:
        UserError: unknown detector, no such file, or numbers that do not fit.
    """
    from detectors import DETECTORS, WEIGHTLESS
    from detectors.places import default_detector, default_weights, known_names, told_weights
    for name in detectors:
        if name not in known_names():
            raise UserError(f"detector '{name}': unknown; known are {', '.join(known_names())}")
        if weights and (name in WEIGHTLESS or name not in DETECTORS):
            raise UserError(f"--detector {name}: takes no --weights; run it alone")
    if not weights:
        found = [(name, None if name in WEIGHTLESS else default_weights(name))
                 for name in detectors or (default_detector(),)]
        for name, place in found:
            if place:
                click.echo(told_weights(name, place), err=True)
        return list(found)
    for path in weights:
        if not path.exists():
            raise UserError(f"{path}: no such checkpoint")
    if len(detectors) not in (0, 1, len(weights)):
        raise UserError(f"{len(detectors)} --detector for {len(weights)} --weights: give one each, or one for all")
    names = detectors if len(detectors) == len(weights) else (detectors or (None,)) * len(weights)
    return list(zip(names, weights, strict=True))


def _networks(checkpoints: list[tuple[str | None, Path | None]], device: str) -> "dict[str, LoadedDetector]":
    """Networks by a name of their own: that of the detector, or where several have one, of the checkpoint's place."""
    from configs.engine import pick_device
    from detectors import DETECTORS, create_detector
    from detectors.checkpoints import LoadedDetector, load_detector
    loaded: list[tuple[str, Path | None, LoadedDetector]] = []
    for asked, path in checkpoints:
        if path is None:
            assert asked
            loaded.append((asked, None, LoadedDetector(asked, create_detector(asked).eval(), {}, {})))
        else:
            # A name may be of shipped weights alone, and of no network.
            found = load_detector(path, pick_device(device), asked if asked in DETECTORS else None)
            loaded.append((asked or found.name, path.resolve(), found))
    kinds = [kind for kind, *_ in loaded]
    networks: dict[str, LoadedDetector] = {}
    for name, place, found in loaded:
        if place and kinds.count(name) > 1:
            name = (place.parent if place.name == "model.safetensors" else place).stem
        if name in networks:
            raise UserError(f"--weights: two checkpoints are called {name}; rename one")
        networks[name] = found
    return networks


def _modules(networks: "dict[str, LoadedDetector]") -> "dict[str, nn.Module]":
    return {name: found.module for name, found in networks.items()}


def _thresholds(networks: "dict[str, LoadedDetector]") -> dict[str, float]:
    """Those that weights carry."""
    return {name: found.provenance["threshold"] for name, found in networks.items() if "threshold" in found.provenance}


def weights_options(command: Callable[..., None]) -> Callable[..., None]:
    """--detector and --weights, of which there may be several."""
    for decorate in (
        click.option("--weights", multiple=True, type=click.Path(path_type=Path),
                     help="Checkpoint or its folder; default what comes with giidnet, else runs/quick/retrain/NAME or "
                     "weights/NAME. Repeatable."),
        click.option("--detector", "detectors", multiple=True, metavar="NAME",
                     help="Network, see 'giidnet list detectors'; default giidnet. Repeatable."),
    ):
        command = decorate(command)
    return command


@cli.command()
@click.argument("paths", nargs=-1, required=True)
@weights_options
@click.option("--out", type=click.Path(path_type=Path), default=Path("detections"), show_default=True)
@click.option("--threshold", type=FiniteRange(0, 1),
              help="Probability from which a pixel is flagged. Default: what the weights say, or 0.5.")
@click.option("--raw", is_flag=True, help="Also write the map as float32 .npy.")
@click.option("--tile", type=click.IntRange(0), help="Side of the tiles that larger pictures are cut into; 0 never "
              "cuts. Default: what the network does in bounded memory.")
@device_option
def detect(paths: tuple[str, ...], detectors: tuple[str, ...], weights: tuple[Path, ...], out: Path,
           threshold: float | None, raw: bool, tile: int | None, device: str) -> None:
    """Write a heat map and an overlay of each picture, and detections.csv.

    PATHS are pictures, folders or patterns such as 'photos/*.jpg'. A folder, or several detectors, also give
    contact sheets.
    """
    if tile is not None and 0 < tile < LEAST_TILE:
        raise UserError(f"--tile {tile}: must be 0 or at least {LEAST_TILE}")
    from detectors.places import find_pictures
    files, checkpoints = find_pictures(paths), _checkpoints(detectors, weights)
    make_folder(out)
    from detectors.detect import Options
    from detectors.detect import detect as look
    networks = _networks(checkpoints, device)
    folders = any(Path(path).is_dir() for path in paths)
    options = Options(0.5, raw, tile, _thresholds(networks)) if threshold is None else Options(threshold, raw, tile)
    count, errors = look(files, _modules(networks), out, options, folders)
    for line in errors:
        click.echo(f"skipped {line}", err=True)
    if not count:
        raise UserError(f"none of {len(files)} pictures could be read")
    click.echo(f"{count} picture{'s' * (count != 1)}, {len(errors)} skipped: {(out / 'detections.csv').resolve()}")


@cli.command()
@weights_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--limit", default=32.0, show_default=True, type=FiniteRange(0, min_open=True),
              help="Largest file in MB.")
@click.option("--pixels", default=50.0, show_default=True, type=FiniteRange(0, min_open=True),
              help="Largest picture in megapixels.")
@device_option
def serve(detectors: tuple[str, ...], weights: tuple[Path, ...], host: str, port: int, limit: float, pixels: float,
          device: str) -> None:
    """Show maps of pictures in a web page on this machine."""
    from importlib.util import find_spec
    if not all(map(find_spec, ("starlette", "uvicorn", "PIL"))):
        raise UserError("serve: needs further packages; install them with: pip install -e \".[serve]\"")
    checkpoints = _checkpoints(detectors, weights)
    from detectors.serve import Limits, address, answer, build_app, is_loopback, listen
    with listen(host, port) as listening:
        networks = _networks(checkpoints, device)
        if not is_loopback(host):
            click.echo(f"giidnet: {host} can be reached from other machines, and there is no authentication", err=True)
        click.echo(f"{address(host, listening)} (Ctrl-C ends)")
        app = build_app(_modules(networks), Limits(limit, pixels), host, _thresholds(networks))
        answer(app, listening)


@cli.group("weights")
def weights_group() -> None:
    """Checkpoints of others, and weights that come with this project."""


@weights_group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--detector", required=True, metavar="NAME", help="iid-net, mantranet or mantranet-gru.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; default weights/NAME.")
@click.option("--method", "methods", multiple=True, metavar="METHOD",
              help="Inpainting method that it was trained on, for the labels of a benchmark. Repeatable.")
def import_weights(file: Path, detector: str, out: Path | None, methods: tuple[str, ...]) -> None:
    """Turn a published checkpoint into one of this project."""
    from detectors import PUBLISHED
    if detector not in PUBLISHED:
        raise UserError(f"--detector {detector}: published checkpoints are known of {', '.join(PUBLISHED)}")
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    out = out or Path("weights") / detector
    from detectors.checkpoints import import_published, save_detector
    found = import_published(file, detector, methods=methods)
    make_folder(out)
    save_detector(out, detector, found.module, found.options, found.provenance)
    click.echo(f"{detector}: {(out / 'model.safetensors').resolve()}")


@weights_group.command("publish")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What they are called, such as giidnet or giidnet-small.")
@click.option("--threshold", type=FiniteRange(0, 1), help="Probability from which 'giidnet detect' flags a pixel.")
@click.option("--thresholds", type=click.Path(path_type=Path), metavar="FILE",
              help="Take it from the results/thresholds.csv of a benchmark of this checkpoint: quiet_threshold.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; default detectors/weights of this code.")
def publish_weights(checkpoint: Path, name: str, threshold: float | None, thresholds: Path | None,
                    out: Path | None) -> None:
    """For developers: turn CHECKPOINT, a folder of 'giidnet retrain', into weights that come with giidnet.

    They are stored as float16, with what they were trained on and nothing of this machine.
    """
    if threshold is not None and thresholds:
        raise UserError("weights publish: give --threshold or --thresholds, not both")
    if not checkpoint.exists():
        raise UserError(f"{checkpoint}: no such checkpoint")
    from detectors.places import WEIGHTS
    out = out or WEIGHTS
    from detectors.publish import chosen_threshold, publish
    found = publish(checkpoint, name, make_folder(out), chosen_threshold(thresholds, checkpoint) if thresholds
                    else threshold)
    click.echo(f"{name}: {found.parameters:,} parameters, {found.size:,} bytes; a map differs from the checkpoint's by "
               f"{found.largest_difference:.1e} at most, {found.mean_difference:.1e} in the mean")
    click.echo(f"{found.path.resolve()}")


@weights_group.command("card")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--card", type=click.Path(path_type=Path), default=Path("docs/model-card.md"), show_default=True,
              help="Markdown file with a block for the tables.")
def write_model_card(runs: tuple[Path, ...], card: Path) -> None:
    """For developers: write the tables of benchmark RUNS into the model card."""
    from results.model_card import write_card
    write_card(card, runs)
    click.echo(f"{card.resolve()}")


@cli.command()
@weights_options
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File; default NAME.onnx.")
def export(detectors: tuple[str, ...], weights: tuple[Path, ...], kind: str, out: Path | None) -> None:
    """Write a network as ONNX, for pictures of any size, and check it against the original."""
    if len(detectors) > 1 or len(weights) > 1:
        raise UserError("export takes one network at a time")
    checkpoints = _checkpoints(detectors, weights)
    from detectors.export import export_onnx
    ((name, module),) = _modules(_networks(checkpoints, "cpu")).items()
    out = out or Path(f"{name}.onnx")
    make_folder(out.parent)
    for height, width, difference in export_onnx(module, out):
        click.echo(f"{height}×{width}: largest difference {difference:.1e}")
    click.echo(f"{name}: {out.resolve()}")


@contextmanager
def _one_line_errors(debug: bool, command: str = "") -> Iterator[None]:
    """What the user can mend ends in one line and exit code 2."""
    try:
        yield
    except UserError as error:
        if debug:
            raise
        click.echo(f"giidnet: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        if debug:
            raise
        click.echo(f"giidnet: {error.format_message()}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"giidnet: interrupted{CONTINUED.get(command, '')}", err=True)
        sys.exit(130)


@contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `giidnet`."""
    words = sys.argv[1:] if arguments is None else arguments
    # Read when torch is imported: threads that wait for one another spin for less long before they sleep, which
    # changes nothing on an idle machine and much on a busy one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if isinstance(sys.stdout, TextIOWrapper):
        # Names of files may be any bytes.
        sys.stdout.reconfigure(errors="surrogateescape")
    # --debug is meant wherever it stands.
    plain = [word for word in words if word != "--debug"]
    # Of several processes one speaks for all.
    with _silence() if _variable("RANK", 0) else nullcontext(), _one_line_errors(plain != words,
                                                                                plain[0] if plain else ""):
        cli(plain, standalone_mode=False, prog_name="giidnet")


if __name__ == "__main__":
    main()
