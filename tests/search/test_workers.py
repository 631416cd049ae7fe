"""Finished scores are kept; workers may join and die, and the scores are the same."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.errors import UserError
from configs.files import read_rows
from configs.schema import Photos, RunConfig
from configs.storage import open_storage
from forgeries.photos import find_photos
from search import stage
from search.scoring import ScoringData, Unit
from search.units import Store, evaluate_here, fingerprint
from search.workers import Offers, draw_token, evaluate_shared, read_token, work

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
UNITS = [Unit((f"first{number}", f"second{number}"), 0, 3, 1) for number in range(12)]
STORAGES = ["sqlite:///work/scores.db", "journal:work/scores.log"]
if server := os.environ.get("GIIDNET_POSTGRESQL"):
    # Such as postgresql://me@localhost/test: a database that tests may write to.
    STORAGES.append(server)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["search.stage", "search.workers"])


def values_of(unit):
    """Any function of a unit, with a score that is not defined."""
    found = np.random.default_rng(int(unit.key, 16)).random((2, 3, 2))
    found[0, 0, 1] = np.nan
    return found


def assert_right(results):
    for unit, values in zip(UNITS, results, strict=True):
        np.testing.assert_array_equal(values, values_of(unit))


def store_in(folder):
    return Store.open(folder / "scores", "mark")


def offers_in(folder, text):
    return Offers.open(open_storage(text, folder), f"test {folder}")


def run_worker(folder, text, hangs, pause):
    def compute(unit):
        (folder / f"claimed{os.getpid()}").touch()
        time.sleep(600 if hangs else pause)
        return values_of(unit)

    done = work(store_in(folder), compute, offers_in(folder, text))
    (folder / f"done{os.getpid()}").write_text(str(done))


def start_worker(folder, text, hangs=False, pause=0.02):
    process = PROCESSES.Process(target=run_worker, args=(folder, text, hangs, pause), daemon=True)
    process.start()
    return process


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_stored_is_not_computed_again(tmp_path):
    asked, told = [], []

    def compute(unit):
        asked.append(unit)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return values_of(unit)

    with pytest.raises(KeyboardInterrupt):
        evaluate_here(UNITS, store_in(tmp_path), compute, lambda *_: None)
    assert_right(evaluate_here(UNITS, store_in(tmp_path), compute, lambda unit, _: told.append(unit)))
    assert asked == UNITS[:6] + UNITS[5:] and told == UNITS
    assert store_in(tmp_path).cost()[1] == len(UNITS) * 2 * 3


def test_scores_of_other_weights_or_pictures_are_never_taken(tmp_path):
    def data(value, recalibration=0.0):
        return ScoringData([(torch.full((1, 3, 2, 2), value), torch.zeros(1, 1, 2, 2))],
                           [(torch.full((1, 3, 2, 2), recalibration), torch.zeros(1, 1, 2, 2))])

    weights, others = tmp_path / "a", tmp_path / "b"
    weights.write_bytes(b"1")
    others.write_bytes(b"2")
    marks = [fingerprint(weights, data(0.5)), fingerprint(others, data(0.5)), fingerprint(weights, data(0.25)),
             fingerprint(weights, data(0.5, 1.0))]
    assert len(set(marks)) == 4 and fingerprint(weights, data(0.5)) == marks[0]
    place = tmp_path / "scores"
    Store.open(place, marks[0]).compute(UNITS[0], values_of)
    assert Store.open(place, marks[0]).get(UNITS[0]) is not None
    assert Store.open(place, marks[1]).get(UNITS[0]) is None
    assert [path.name for path in place.iterdir()] == [marks[1]]


@pytest.mark.parametrize("text", STORAGES)
def test_a_dead_worker_and_living_ones_change_no_score(text, tmp_path):
    (tmp_path / "work").mkdir()
    store, offers = store_in(tmp_path), offers_in(tmp_path, text)
    offers.offer(UNITS)
    doomed = start_worker(tmp_path, text, hangs=True)
    wait_for(lambda: list(tmp_path.glob("claimed*")))
    os.kill(doomed.pid, signal.SIGKILL)
    others = [start_worker(tmp_path, text) for _ in range(2)]
    wait_for(lambda: len(list(tmp_path.glob("claimed*"))) == 3)
    told = []
    assert_right(evaluate_shared(UNITS, store, values_of, lambda unit, _: told.append(unit), offers))
    assert sorted(map(UNITS.index, told)) == list(range(len(UNITS)))
    offers.set_finished(True)
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    assert sum(int(path.read_text()) for path in tmp_path.glob("done*")) >= 2


@pytest.mark.parametrize("text", STORAGES)
def test_the_search_waits_for_nobody(text, tmp_path):
    (tmp_path / "work").mkdir()
    dead = offers_in(tmp_path, text)
    dead.offer(UNITS)
    assert [dead.claim()[1] for _ in UNITS] == UNITS and dead.claim() is None
    offers = offers_in(tmp_path, text)
    assert_right(evaluate_shared(UNITS, store_in(tmp_path), values_of, lambda *_: None, offers))


@pytest.mark.parametrize("text", STORAGES)
def test_a_unit_is_claimed_once_and_may_be_done_twice(text, tmp_path):
    (tmp_path / "work").mkdir()
    first, second = (offers_in(tmp_path, text) for _ in range(2))
    first.offer(UNITS)
    second.offer(UNITS)
    claimed = [offers.claim() for _ in range(6) for offers in (first, second)]
    assert [unit for _, unit in claimed] == UNITS and second.claim() is None
    first.done(claimed[0][0], values_of(UNITS[0]))
    second.done(claimed[0][0], values_of(UNITS[0]))
    # What is done is offered again when its file is missing.
    first.offer(UNITS)
    assert second.claim()[1] == UNITS[0]


@pytest.mark.parametrize("text, expected", [
    ("mysql://root@localhost/db", "must be sqlite"), ("scores.db", "must be sqlite"), ("sqlite:scores.db", "must be"),
    ("journal:", "must be"), ("sqlite:///nowhere/scores.db", "cannot be opened"),
    ("journal:nowhere/scores.log", "cannot be opened"), ("journal:damaged.log", "cannot be opened"),
    ("postgresql://me:secret@localhost:port/db", "cannot be opened"),
    ("postgresql://me:secret@localhost:1/db", r"psycopg\[binary|cannot be opened"),
])
def test_a_storage_that_cannot_be_used_is_told_in_one_line(text, expected, tmp_path):
    (tmp_path / "damaged.log").write_text("{\n{\n")
    with pytest.raises(UserError, match=r"search\.storage.*(" + expected + ")") as error:
        open_storage(text, tmp_path)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def configure(**search):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "photos": {"dirs": [str(Path(__file__).parent.parent / "data" / "photos")]},
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "space": {"cells": 2, "slots": 2, "channels": [64, 128], "strides": [2, 1], "dilations": [1, 1],
                  "width": 0.0625},
        "search": {"epochs": 1, "steps": 3, "batch_size": 2, "candidates": 24, "validation_images": 8,
                   "recalibration_batches": 1, "check": {"random": 0}} | search})


def help_search(config, folder):
    torch.set_num_threads(1)
    stage.assist(config, folder, PHOTOS, torch.device("cpu"))


def test_candidates_are_the_same_with_workers_one_of_them_killed(tmp_path, monkeypatch):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    stage.run_search(configure(), alone, PHOTOS)
    config = configure(storage="journal:scores.log")
    (shared / "search").mkdir(parents=True)
    # They wait for the end of the training.
    workers = [PROCESSES.Process(target=help_search, args=(config, shared), daemon=True) for _ in range(3)]
    for process in workers:
        process.start()
    score, count = stage.score_unit, 0

    def slowly(*arguments):
        nonlocal count
        count += 1
        if count == 12:
            os.kill(workers[0].pid, signal.SIGKILL)
        return score(*arguments)

    monkeypatch.setattr(stage, "score_unit", slowly)
    stage.run_search(config, shared, PHOTOS)
    for process in workers:
        process.join(60)
    assert [process.exitcode for process in workers[1:]] == [0, 0]
    for name in ("candidates.csv", "supernet.safetensors"):
        assert (shared / "search" / name).read_bytes() == (alone / "search" / name).read_bytes()
    assert len(read_rows(alone / "search" / "candidates.csv")) == 24
    assert not (shared / "search" / "scores").exists()


def test_a_worker_with_other_photographs_and_one_without_a_storage_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"start it with search\.storage="):
        stage.assist(configure(), tmp_path, PHOTOS, "cpu")
    config, refused = configure(storage="journal:scores.log"), []
    score, swapped = stage.score_unit, replace(PHOTOS, train=PHOTOS.test, test=PHOTOS.train)

    def look(*arguments):
        if (tmp_path / "search" / "scores").exists() and not refused:
            with pytest.raises(UserError, match="same photographs") as error:
                stage.assist(config, tmp_path, swapped, "cpu")
            refused.append(error)
        return score(*arguments)

    monkeypatch.setattr(stage, "score_unit", look)
    stage.run_search(config, tmp_path, PHOTOS)
    assert refused


def test_a_storage_that_fails_in_the_middle_is_told_in_one_line(tmp_path, monkeypatch):
    store, offers = store_in(tmp_path), Offers.open(open_storage("sqlite:///scores.db", tmp_path), "search")
    done = []

    def compute(unit):
        done.append(unit)
        # As when a disk or a server goes away: what is asked next fails.
        (tmp_path / "scores.db").write_bytes(b"no database any more" * 1000)
        return values_of(unit)

    with pytest.raises(UserError, match=r"search\.storage: lost .* --resume continues") as error:
        evaluate_shared(UNITS, store, compute, lambda unit, values: None, offers)
    assert "\n" not in str(error.value) and store.get(done[0]) is not None


def test_a_journal_that_is_lost_is_told_in_one_line(tmp_path):
    offers = Offers.open(open_storage("journal:scores.log", tmp_path), "search")
    (tmp_path / "scores.log").unlink()
    (tmp_path / "scores.log").mkdir()
    for ask in (lambda: offers.set_finished(True), lambda: offers.finished, offers.claim,
                lambda: offers.offer(UNITS), lambda: Offers.open(offers.storage, "another")):
        with pytest.raises(UserError, match=r"search\.storage: lost .*scores\.log") as error:
            ask()
        assert "\n" not in str(error.value)


def test_a_score_that_cannot_be_written_is_no_lost_storage(tmp_path):
    offers = Offers.open(open_storage("journal:scores.log", tmp_path), "search")

    def compute(unit):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        evaluate_shared(UNITS, store_in(tmp_path), compute, lambda *_: None, offers)


def test_a_storage_lost_after_the_last_score_does_not_end_a_search(tmp_path, monkeypatch):
    text = "sqlite:///scores.db"
    set_finished, lost = Offers.set_finished, []

    def lose(offers, finished):
        if finished:
            lost.append((tmp_path / "scores.db").write_bytes(b"no database any more" * 1000))
        set_finished(offers, finished)

    monkeypatch.setattr(Offers, "set_finished", lose)
    stage.run_search(configure(storage=text), tmp_path, PHOTOS)
    assert lost and (tmp_path / "search" / "genotype.yaml").exists()


def test_searches_of_one_configuration_do_not_meet_on_one_storage(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    names = [draw_token(folder) for folder in (first, second)]
    assert names[0] != names[1] and [read_token(folder) for folder in (first, second)] == names
    assert draw_token(first) == names[0]
    for folder in (first, second):
        stage.run_search(configure(storage=f"journal:{tmp_path / 'scores.log'}"), folder, PHOTOS)
        assert read_token(folder) == ""
    storage = open_storage("journal:scores.log", tmp_path)
    studies = {study.study_name.rsplit("-", 1)[1]: storage.get_all_trials(study._study_id)
               for study in storage.get_all_studies()}
    assert set(studies) == set(names) and all(studies.values())
