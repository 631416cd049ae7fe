"""Tuning: an Optuna study over entries of the configuration, each trial a training of one detector.

Any number of processes work on one study. Each trial is held by a lock in its folder, which goes with its process: a
trial that runs and whose lock is free was killed, and is continued from its checkpoint by whoever comes next.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
import yaml
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from optuna.exceptions import StorageInternalError
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from torch.utils.tensorboard import SummaryWriter

from configs.engine import pick_device
from configs.errors import UserError
from configs.files import make_folder, read_rows, write_atomic, write_rows
from configs.load import Names, dump_config, override
from configs.schema import RunConfig
from configs.storage import open_storage
from configs.streams import stream
from forgeries.photos import PhotoSet
from results.colours import BLUE
from results.plots import panel, svg
from retrain.ranges import Choice, Ranges, Span
from retrain.stage import is_trained, train_detector, trainees
from search_space.genotype import Genotype

STORAGE = "sqlite:///tune/study.db"

PRUNERS = ("median", "halving", "none")

REASON = "reason"
LEAST_FOR_IMPORTANCE = 4
"""Completed trials: fewer rank nothing."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned: `config` with entries from `ranges`, for the detector `trainee`; pruned by one of `PRUNERS`."""

    config: RunConfig
    ranges: Ranges
    trainee: str
    genotype: Genotype | None
    pruner: str = "median"

    def at(self, values: Mapping[str, object], names: Names | None = None) -> RunConfig:
        """The configuration with `values` of the ranges' keys.

        Raises:
            UserError: they do not go together.
        """
        return override(self.config, [f"{key}={value}" for key, value in values.items()], names)


def make_tuning(config: RunConfig, ranges: Ranges, folder: Path, names: Names, trainee: str | None = None,
                pruner: str = "median") -> Tuning:
    """Checks that each range is of an entry that takes its values; `trainee` is by default the first detector of the
    configuration, whose genotype is that of the search in `folder` where it names none.

    Raises:
        UserError: no range, an unknown key or impossible value, an unknown detector, or no genotype.
    """
    if not ranges:
        raise UserError("nothing to tune; give ranges such as 'retrain.learning_rate=log:1e-4..1e-2' "
                        "'retrain.batch_size=choice:4,8'")
    trainee = trainee or config.retrain.detectors[0]
    config = override(config, [f"retrain.detectors=[{trainee}]"], names)
    found = folder / "search" / "genotype.yaml"
    if trainee == "giidnet" and config.retrain.genotype is None and found.exists():
        # Named, for a retraining of the best configuration in another folder.
        config = override(config, [f"retrain.genotype={json.dumps(str(found.resolve()))}"], names)
    genotypes = trainees(config, folder)
    if trainee not in genotypes:
        raise UserError(f"{trainee}: its genotype is not of this space; tune another detector with --detector NAME")
    for key, values in ranges.items():
        for text in values.probes():
            override(config, [f"{key}={text}"], names)
    return Tuning(config, ranges, trainee, genotypes[trainee], pruner)


def run_tuning(tuning: Tuning, folder: Path, photos: PhotoSet, trials: int, storage: str = STORAGE) -> str:
    """Works on the study in `folder/tune`, made or joined, until it has `trials`, of whatever end; what it came to.

    Writes `trials.csv` and `best.yaml` after each trial, `importance.csv` and `importance.svg` at the end.

    Raises:
        UserError: the folder holds another tuning, the storage or the device cannot be used, or all trials failed.
    """
    out = make_folder(folder / "tune")
    identity = _identity(tuning, photos)
    # What would fail each trial is told before the first.
    pick_device(tuning.config.device)
    with _lost_storage(storage):
        with FileLock(out / ".claim"):
            _check_same(out / "study.yaml", identity)
            study = optuna.create_study(
                storage=open_storage(storage, folder, "--storage", "finished trainings are kept in tune/trial-*"),
                sampler=TPESampler(seed=0), pruner=make_pruner(tuning.pruner), direction="maximize",
                study_name=f"tune {hashlib.sha256(identity.encode()).hexdigest()[:16]}", load_if_exists=True)
        while True:
            with claim(study, out, trials) as trial:
                if trial is None:
                    break
                study.sampler = TPESampler(seed=_seed(tuning.config.seed, trial.number))
                _run(study, trial, tuning, photos, folder)
            write_results(study, tuning, out)
        ended = study.get_trials(deepcopy=False)
        if all(trial.state == TrialState.FAIL for trial in ended):
            raise UserError(f"{out}: all {len(ended)} trials failed; the last: {ended[-1].user_attrs.get(REASON)}")
        write_importance(study, out)
        return write_results(study, tuning, out)


def make_pruner(name: str) -> BasePruner:
    """One of `PRUNERS`: below the median of the epochs of other trials, asynchronous successive halving, or none."""
    return {"median": MedianPruner, "halving": SuccessiveHalvingPruner, "none": NopPruner}[name]()


@contextmanager
def claim(study: optuna.Study, out: Path, trials: int) -> Iterator[Trial | None]:
    """A trial for this process alone: one that a killed process left in `out`, or a new one while there are fewer than
    `trials`; None where there is nothing to do."""
    trial = None
    with FileLock(out / ".claim"):
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Of a trial without a folder here, a process with another one takes care.
            if (out / f"trial-{left.number}").exists() and (lock := _take(out, left.number)):
                if study.get_trials(deepcopy=False)[left.number].state == TrialState.RUNNING:
                    trial = Trial(study, left._trial_id)
                    break
                lock.release()
        if trial is None and len(study.get_trials(deepcopy=False)) < trials:
            trial = study.ask()
            lock = _take(out, trial.number)
    try:
        yield trial
    finally:
        if trial is not None and lock is not None:
            lock.release()


def _take(out: Path, number: int) -> FileLock | None:
    """The lock of a trial's folder, which is made; None where another process holds it."""
    lock = FileLock(make_folder(out / f"trial-{number}") / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _run(study: optuna.Study, trial: Trial, tuning: Tuning, photos: PhotoSet, folder: Path) -> None:
    """Trains, or continues to train, the detector of one trial, and tells the study how that ended."""
    name = f"trial-{trial.number}"
    out = folder / "tune" / name
    values = {key: suggest(trial, key, each) for key, each in tuning.ranges.items()}
    print(f"── {name}: {_shown(values)}", file=sys.stderr, flush=True)
    reported = set(study.trials[trial.number].intermediate_values)

    def report(epoch: int, auc: float) -> None:
        # A continued training may repeat an epoch.
        if epoch not in reported:
            trial.report(auc, epoch)
            reported.add(epoch)

    def on_epoch(epoch: int, figures: Mapping[str, float]) -> None:
        report(epoch, figures["val_auc"])
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        config = tuning.at(values)
        _clear_other(out, dump_config(config))
        if not is_trained(out):
            with SummaryWriter(str(folder / "tensorboard" / "tune" / name)) as board:
                train_detector(tuning.trainee, tuning.genotype, config, photos, out, board, name,
                               validation=tuning.config, on_epoch=on_epoch)
        for row in read_rows(out / "history.csv"):
            report(int(row["epoch"]), float(row["val_auc"]))
        score = json.loads((out / "model.json").read_text())["provenance"]["val_auc"]
        if not math.isfinite(score):
            raise UserError("the validation AUC is undefined; retrain.validation_images is too small")
        study.tell(trial, score)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (UserError, torch.OutOfMemoryError) as error:
        # Values that cannot be trained with are an answer too.
        trial.set_user_attr(REASON, " ".join(str(error).split()))
        study.tell(trial, state=TrialState.FAIL)
    for place in (out, out / "pretrain"):
        (place / "checkpoint.pt").unlink(missing_ok=True)


def _clear_other(out: Path, config: str) -> None:
    """Writes the configuration `config`; what another left, of a study that was lost with its storage, is not
    continued."""
    path = out / "config.yaml"
    if not path.exists() or path.read_text() != config:
        for name in ("model.safetensors", "checkpoint.pt", "pretrain/checkpoint.pt"):
            (out / name).unlink(missing_ok=True)
        write_atomic(path, config)


def suggest(trial: Trial, key: str, values: Span | Choice) -> object:
    """A value from a `Span` or `Choice`, drawn once for a trial."""
    if isinstance(values, Choice):
        return trial.suggest_categorical(key, values.options)
    if values.integers:
        return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)


def write_results(study: optuna.Study, tuning: Tuning, out: Path) -> str:
    """Writes what the study came to so far, and returns it in a line or two."""
    trials = study.get_trials(deepcopy=False)
    rows = [_row(trial, tuning.ranges) for trial in trials]
    write_rows(out / "trials.csv", ("trial", "state", "val_auc", "epochs", *tuning.ranges, REASON), rows)
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    if not completed:
        return f"trials: {counts}; none is complete so far"
    best = max(completed, key=lambda trial: (trial.value, -trial.number))
    write_atomic(out / "best.yaml", dump_config(tuning.at(best.params)))
    return f"trials: {counts}\nbest: trial {best.number}, validation AUC {best.value:.4f}: {_shown(best.params)}"


def write_importance(study: optuna.Study, out: Path) -> None:
    """Writes what mattered, as a table and a plot, where enough trials are complete to tell."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < LEAST_FOR_IMPORTANCE:
        return
    found = importances(study)
    write_rows(out / "importance.csv", ("key", "importance"),
               [{"key": key, "importance": f"{value:.9g}"} for key, value in found.items()])
    write_atomic(out / "importance.svg", svg(importance_figure(found)))


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each key in what tells the best quarter of the completed trials from all (PED-ANOVA, Watanabe, Bansal &
    Hutter 2023), summing to 1, the largest first.

    A quarter, because a tenth of so few trials as trainings allow would be one or two.
    """
    found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def importance_figure(found: Mapping[str, float]) -> Figure:
    """A bar for each key, the most important on top."""
    figure, ax = panel(0.8 + 0.35 * len(found))
    ax.barh(list(found)[::-1], list(found.values())[::-1], color=BLUE)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="importance (PED-ANOVA)", xlim=(0, 1))
    return figure


def _shown(values: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in values.items())


def _row(trial: FrozenTrial, keys: Iterable[str]) -> dict[str, str]:
    return {"trial": str(trial.number), "state": trial.state.name.lower(),
            "val_auc": "" if trial.value is None else f"{trial.value:.9g}",
            "epochs": str(len(trial.intermediate_values)), REASON: trial.user_attrs.get(REASON, ""),
            **{key: str(trial.params.get(key, "")) for key in keys}}


def _identity(tuning: Tuning, photos: PhotoSet) -> str:
    """What trials of one study have in common, as YAML."""
    pictures = " ".join(photo.digest for split in (photos.train, photos.val) for photo in split)
    return yaml.safe_dump({
        "detector": tuning.trainee, "genotype": str(tuning.genotype) if tuning.genotype else None,
        "ranges": {key: str(values) for key, values in tuning.ranges.items()}, "pruner": tuning.pruner,
        "photos": hashlib.sha256(pictures.encode()).hexdigest(),
        "config": tuning.config.model_dump(mode="json")}, sort_keys=False, default_flow_style=None, width=110)


def _check_same(path: Path, identity: str) -> None:
    """Writes `identity` to `path`, or checks that it stands there.

    Raises:
        UserError: another does.
    """
    if not path.exists():
        write_atomic(path, identity)
    elif (there := path.read_text()) != identity:
        ours, theirs = yaml.safe_load(identity), yaml.safe_load(there)
        keys = ", ".join(key for key in ours if ours[key] != theirs.get(key))
        raise UserError(f"{path}: another tuning is in this folder (its {keys} differ); name another --out")


def _seed(seed: int, number: int) -> int:
    return int(stream(seed, "tune", number).integers(2**32))


@contextmanager
def _lost_storage(storage: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(f"--storage {storage.partition(':')[0]}: lost ({' '.join(str(error).split())[:200]}); the same "
                        "command continues") from None
