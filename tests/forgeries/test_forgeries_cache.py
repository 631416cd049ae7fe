"""The cache of painted regions: same bytes, bounded, whole under kills and many processes."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs import cache
from configs.cache import cache_folder, sweep
from configs.schema import Photos
from forgeries.cache import PaintCache, key, paint_cache
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.methods import METHODS, Method
from forgeries.photos import find_photos


def noise(seed: int, side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


MASK = np.zeros((24, 24), bool)
MASK[5:15, 8:20] = True


def counting(**options) -> tuple[Method, list[int]]:
    """A method that paints noise of the generator, and the list that grows with each call."""
    calls: list[int] = []

    def fill(image, mask, generator):
        calls.append(1)
        return generator.integers(0, 256, image.shape, np.uint8)

    return Method("XX", "test", "noise", "nobody", fill, "slow", deterministic=False, **options), calls


@pytest.mark.parametrize("composite", [True, False])
def test_what_was_painted_once_is_not_painted_again(tmp_path, composite):
    method, calls = counting(composite=composite)
    kept, image = PaintCache(tmp_path, 2 ** 20), noise(0)
    first = kept.paint(method, image, MASK, np.random.default_rng(1))
    expected = method.paint(image, MASK, np.random.default_rng(1))
    assert (first == expected).all() and len(calls) == 2
    again = kept.paint(method, image, MASK, np.random.default_rng(1))
    assert (again == expected).all() and len(calls) == 2
    assert (again[~MASK] == image[~MASK]).all() == composite


def test_anything_that_changes_the_result_changes_the_address():
    method, _ = counting(parameters={"radius": 3})
    image, generator = noise(0), np.random.default_rng
    other_mask = MASK.copy()
    other_mask[0, 0] = True
    keys = [key(method, image, MASK, generator(1)), key(method, noise(1), MASK, generator(1)),
            key(method, image, other_mask, generator(1)), key(method, image, MASK, generator(2)),
            key(replace(method, version="2"), image, MASK, generator(1)),
            key(replace(method, name="YY"), image, MASK, generator(1)),
            key(replace(method, parameters={"radius": 4}), image, MASK, generator(1)),
            key(replace(method, composite=False), image, MASK, generator(1))]
    assert len(set(keys)) == len(keys)
    fixed = replace(method, deterministic=True)
    assert key(fixed, image, MASK, generator(1)) == key(fixed, image, MASK, generator(2))
    assert key(method, image, MASK, generator(1)) == keys[0]


def test_pixels_of_the_same_bytes_in_another_shape_are_another_picture():
    method, _ = counting(version="1")
    image = noise(0)
    assert key(method, image, MASK, np.random.default_rng(0)) != \
        key(method, image.reshape(12, 48, 3), MASK.reshape(12, 48), np.random.default_rng(0))


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:-1] + b"?",
                                    lambda data: data + b"!"])
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    method, calls = counting()
    kept = PaintCache(tmp_path, 2 ** 20)
    expected = kept.paint(method, noise(0), MASK, np.random.default_rng(1))
    (entry,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    entry.write_bytes(damage(entry.read_bytes()))
    assert (kept.paint(method, noise(0), MASK, np.random.default_rng(1)) == expected).all()
    assert len(calls) == 2
    assert (kept.paint(method, noise(0), MASK, np.random.default_rng(1)) == expected).all() and len(calls) == 2


def test_it_stays_within_its_limit_and_keeps_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SWEEP", 1)
    method, calls = counting()
    entry = 8 + 3 * int(MASK.sum())
    kept = PaintCache(tmp_path, 256 * 2 * entry)
    for _ in range(2):
        for seed in range(1000):
            kept.paint(method, noise(seed), MASK, np.random.default_rng(seed))
            sizes = [sum(path.stat().st_size for path in shard.iterdir()) for shard in tmp_path.iterdir()] \
                if seed % 100 == 99 else [0]
            assert max(sizes) <= 2 * entry
    # A cyclic pass over twice what it holds still finds some of it.
    assert 1000 < len(calls) < 1900


def test_sweeping_brings_a_full_shard_back_by_chance(tmp_path):
    for number in range(100):
        (tmp_path / f"{number:036x}").write_bytes(bytes(100))
    sweep(tmp_path, 10_000)
    assert len(list(tmp_path.iterdir())) == 100
    sweep(tmp_path, 5_000)
    left = sorted(int(path.name, 16) for path in tmp_path.iterdir())
    assert len(left) == 45
    assert left[0] < 20 and left[-1] > 80
    for age, name in ((0, ".young"), (2 * cache.STALE, ".old")):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep(tmp_path, 5_000)
    assert (tmp_path / ".young").exists() and not (tmp_path / ".old").exists()


def _work(folder: Path, seed: int) -> None:
    method, _ = counting()
    kept = PaintCache(folder, 200_000)
    for number in range(seed, 10_000_000):
        image = noise(number % 50)
        generator = np.random.default_rng(number % 50)
        found = kept.paint(method, image, MASK, generator)
        assert (found == method.paint(image, MASK, np.random.default_rng(number % 50))).all()


def test_processes_that_share_it_and_are_killed_leave_only_whole_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SWEEP", 1)
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        workers = [context.Process(target=_work, args=(tmp_path, seed)) for seed in (0, 7)]
        for worker in workers:
            worker.start()
        time.sleep(0.3)
        for worker in workers:
            assert worker.is_alive()
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
    entries = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert entries and {path.stat().st_size for path in entries} == {8 + 3 * int(MASK.sum())}
    method, calls = counting()
    for seed in range(50):
        found = PaintCache(tmp_path, 200_000).paint(method, noise(seed), MASK, np.random.default_rng(seed))
        assert (found == method.paint(noise(seed), MASK, np.random.default_rng(seed))).all()
    assert len(calls) < 100


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    method, _ = counting()
    expected = method.paint(noise(0), MASK, np.random.default_rng(0))
    kept = PaintCache(tmp_path / "file" / "below", 2 ** 20)
    assert (kept.paint(method, noise(0), MASK, np.random.default_rng(0)) == expected).all()


def test_a_folder_that_is_deleted_meanwhile_costs_time_only(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SWEEP", 1)
    monkeypatch.setattr(cache, "write_atomic", lambda *arguments, **options: None)
    method, _ = counting()
    expected = method.paint(noise(0), MASK, np.random.default_rng(0))
    assert (PaintCache(tmp_path, 2 ** 20).paint(method, noise(0), MASK, np.random.default_rng(0)) == expected).all()


def test_what_cannot_be_kept_leaves_nothing(tmp_path, monkeypatch):
    """As a full disk does."""
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "no space left")))
    method, _ = counting()
    PaintCache(tmp_path, 2 ** 20).paint(method, noise(0), MASK, np.random.default_rng(0))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_forgeries_are_the_same_with_and_without_it(tmp_path):
    photos = find_photos(Photos(), 32).test
    slow = next(name for name, method in METHODS.items() if method.speed != "fast" and not method.deterministic)
    recipe = Recipe(("TE", slow), ("rectangle",), (0.05, 0.2), 32)
    plain = ForgeryDataset(photos, recipe, 0, "train", 4)
    cached = ForgeryDataset(photos, replace(recipe, cache=PaintCache(tmp_path, 2 ** 20)), 0, "train", 4)
    for _ in range(2):
        for i in range(4):
            assert (plain.forgery(i).image == cached.forgery(i).image).all()
    assert any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_folder_is_that_of_the_user_or_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GIIDNET_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert paint_cache(0) is None
    found = paint_cache(0.5)
    assert found and found.limit == 2 ** 29 and tmp_path in found.folder.parents
    monkeypatch.delenv("GIIDNET_CACHE")
    assert cache_folder().name == "giidnet"
