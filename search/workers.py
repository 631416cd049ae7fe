"""Workers that score candidates together. An Optuna storage says who does what; scores are files of the run folder.

A unit of work is a trial that waits; who sets it to running computes it. Since a unit's scores are the same whoever
computes it, nobody waits for anybody: when nothing is left to claim, the search itself computes what others have
claimed and not finished, for they may have died. So there are neither leases nor clocks.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from configs.errors import UserError
from configs.files import write_atomic
from configs.progress import SECONDS_BETWEEN_LINES
from search import TOKEN
from search.scoring import Unit
from search.units import Compute, Finished, Store

POLL_SECONDS = 0.5
"""Between two looks of a worker that has nothing to do."""

OPEN = (TrialState.WAITING, TrialState.RUNNING)
UNIT, FINISHED = "unit", "finished"


def draw_token(folder: Path) -> str:
    """What tells the search of the run folder `folder` from all others on one storage: two of one configuration may
    have the same weights, and each its own scores. Drawn once, kept until the search is finished; no
    result depends on it."""
    if not _token(folder).exists():
        write_atomic(_token(folder), uuid4().hex[:12])
    return read_token(folder)


def read_token(folder: Path) -> str:
    """What `draw_token` gave; nothing where the search has finished meanwhile, whose scores are gone then as well."""
    try:
        return _token(folder).read_text()
    except FileNotFoundError:
        return ""


def _token(folder: Path) -> Path:
    return folder / "search" / TOKEN


@contextmanager
def lost_connections() -> Iterator[None]:
    """A storage that fails in the middle ends in one line, here and in workers; a journal by its file or its lines."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, ValueError) as error:
        raise UserError(f"search.storage: lost ({' '.join(str(error).split())[:200]}); scores so far are kept, and "
                        "--resume continues") from None


@dataclass(frozen=True)
class Offers:
    """The units of one search that are offered, claimed and done, as trials of a study."""

    storage: BaseStorage
    study: int

    @classmethod
    @lost_connections()
    def open(cls, storage: BaseStorage, name: str) -> "Offers":
        """Those of the search `name`, which is taken up when there is one."""
        try:
            return cls(storage, storage.create_new_study([StudyDirection.MAXIMIZE], name))
        except DuplicatedStudyError:
            return cls(storage, storage.get_study_id_from_name(name))

    @property
    @lost_connections()
    def finished(self) -> bool:
        """Whether no more units will come."""
        return bool(self.storage.get_study_user_attrs(self.study).get(FINISHED))

    @lost_connections()
    def set_finished(self, finished: bool) -> None:
        """Tells workers whether they can go."""
        self.storage.set_study_user_attr(self.study, FINISHED, finished)

    @lost_connections()
    def offer(self, units: Sequence[Unit]) -> None:
        """Makes units wait that neither wait nor are claimed."""
        known = {_unit(trial).key for trial in self.storage.get_all_trials(self.study, deepcopy=False, states=OPEN)}
        for unit in units:
            if unit.key not in known:
                self.storage.create_new_trial(self.study, create_trial(
                    state=TrialState.WAITING, user_attrs={UNIT: json.dumps(asdict(unit))}))

    @lost_connections()
    def claim(self) -> tuple[int, Unit] | None:
        """A trial that waited, which no other process gets any more, and its unit."""
        for trial in self.storage.get_all_trials(self.study, deepcopy=False, states=(TrialState.WAITING,)):
            try:
                if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    return trial._trial_id, _unit(trial)
            except UpdateFinishedTrialError:
                continue
        return None

    @lost_connections()
    def done(self, trial: int, values: np.ndarray) -> None:
        """Marks a claimed unit; its value is the mean AUC, for those who look at the storage."""
        # SQLite can give a trial to two processes that claim it in the same moment.
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial, TrialState.COMPLETE, [float(np.nanmean(values[..., 0]))])


def evaluate_shared(units: Sequence[Unit], store: Store, compute: Compute, finished: Finished, offers: Offers,
                    ) -> list[np.ndarray]:
    """Scores of the units, computed here and by workers, none of whom is waited for."""
    results: dict[str, np.ndarray] = {}
    offered = False
    while True:
        for unit in units:
            if unit.key not in results and (values := store.get(unit)) is not None:
                results[unit.key] = values
                finished(unit, values)
        missing = [unit for unit in units if unit.key not in results]
        if not missing:
            return [results[unit.key] for unit in units]
        if not offered:
            offers.offer(missing)
            offered = True
        # Of those that others have claimed the last: who claimed the first will finish it first.
        if not _work(store, compute, offers):
            store.compute(missing[-1], compute)


def work(store: Store, compute: Compute, offers: Offers) -> int:
    """Computes what waits until the search is finished; returns how many units that were."""
    count, shown = 0, time.monotonic()
    while not offers.finished and store.folder.exists():
        if not _work(store, compute, offers):
            time.sleep(POLL_SECONDS)
            continue
        count += 1
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            print(f"worker: {count} units scored", file=sys.stderr, flush=True)
    return count


def _work(store: Store, compute: Compute, offers: Offers) -> bool:
    """Claims and computes one unit; whether there was one."""
    claimed = offers.claim()
    if claimed is None:
        return False
    trial, unit = claimed
    store.compute(unit, compute)
    if (values := store.get(unit)) is not None:
        offers.done(trial, values)
    return True


def _unit(trial: optuna.trial.FrozenTrial) -> Unit:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                              for name, value in json.loads(trial.user_attrs[UNIT]).items()}
    return Unit(**fields)
