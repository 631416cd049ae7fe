"""Datasets in every layout, made here as their authors lay them out; whole ones, and with every flaw."""

import io
import json
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from configs.errors import UserError
from forgeries.readers import AUTHENTIC, LAYOUTS, Case, Cases, Member, read_by_method, read_dataset, split_by_source
from forgeries.readers.cases import to_mask
from forgeries.readers.folders import owned_masks


def picture(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def mask(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed + 1000).random((height, width)) < 0.3


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_files(folder: Path) -> None:
    """Two forged pictures and an authentic one, for lists."""
    for seed in (1, 2):
        save(folder / "Tp" / f"{seed}.png", picture(seed))
        save(folder / "Gt" / f"{seed}_gt.png", mask(seed))
    save(folder / "Au" / "3.png", picture(3))


def make_pairs(folder: Path) -> Path:
    # By sorted position, "10" would get the mask of "1": names with suffixes sort otherwise than those without.
    for seed, name in ((1, "1"), (2, "10"), (3, "1_b")):
        save(folder / "tp" / f"{name}.png", picture(seed))
        save(folder / "GT" / f"{name}_gt.png", mask(seed))
    return folder


def make_methods(folder: Path) -> Path:
    for method in ("TE", "LAMA"):
        for seed in (1, 2):
            save(folder / method / "images" / f"{seed}.png", picture(seed))
            save(folder / method / "masks" / f"{seed}.png", mask(seed))
            save(folder / method / "originals" / f"{seed}.png", picture(9))
    save(folder / "authentic" / "images" / "3.png", picture(3))
    (folder / "manifest.csv").write_text("method,name,source_id\nTE,1,beach\n")
    return folder


def make_suffixes(folder: Path) -> Path:
    for method in ("GC", "SH"):
        for seed in (1, 2):
            save(folder / method / f"{seed}.png", picture(seed))
            save(folder / method / f"{seed}_mask.png", mask(seed))
    return folder


def make_authentic(folder: Path) -> Path:
    for seed in (1, 2):
        save(folder / f"{seed}.png", picture(seed))
    (folder / "notes.txt").write_text("no picture")
    (folder / "._1.png").write_bytes(b"what another system's archive leaves")
    return folder


def make_json(folder: Path) -> Path:
    make_files(folder)
    (folder / "list.json").write_text(json.dumps([["Tp/1.png", "Gt/1_gt.png"], ["./Tp/2.png", "./Gt/2_gt.png"],
                                                  [str(folder / "Au" / "3.png"), "Negative"]]))
    return folder / "list.json"


def make_balanced(folder: Path) -> Path:
    make_json(folder / "sets")
    make_pairs(folder / "CASIA")
    (folder / "balanced.json").write_text(json.dumps([["ManiDataset", "CASIA"], ["JsonDataset", "sets/list.json"]]))
    return folder / "balanced.json"


def make_text(folder: Path) -> Path:
    make_files(folder)
    save(folder / "Tp" / "a name with spaces.png", picture(4))
    (folder / "list.txt").write_text("Tp/1.png Gt/1_gt.png 1\nTp\\2.png Gt\\2_gt.png\n\nAu/3.png None 0\n"
                                     "Tp/a name with spaces.png 0\n")
    return folder / "list.txt"


def make_npy(folder: Path) -> Path:
    make_files(folder)
    np.save(folder / "list.npy", [["Tp/1.png", "Gt/1_gt.png"], ["Tp/2.png", "Gt/2_gt.png"], ["Au/3.png", ""]])
    return folder / "list.npy"


def make_csv(folder: Path) -> Path:
    make_files(folder)
    (folder / "list.csv").write_text("source,gt,method,image\nbeach,Gt/1_gt.png,TE,Tp/1.png\n"
                                     ",Gt/2_gt.png,,Tp/2.png\n,,,Au/3.png\n")
    return folder / "list.csv"


def make_webdataset(folder: Path) -> Path:
    shard(folder / "0.tar", {"a/1.png": png(picture(1)), "a/1.mask.png": png(mask(1)),
                             "a/1.json": b'{"method": "TE", "source": "beach"}', "a/1.txt": b"a caption"})
    shard(folder / "1.tar", {"2.MASK.PNG": png(mask(2)), "2.jpg": png(picture(2)),
                             "3.png": png(picture(3)), "3.json": b'{"method": "authentic"}'})
    return folder


Expected = dict[tuple[str, str, str], tuple[int, bool]]
"""(method, name, source) to the seed of the picture, and whether it has a mask."""

CASES: dict[str, tuple[object, Expected]] = {
    "pairs": (make_pairs, {("", "1", "1"): (1, True), ("", "10", "10"): (2, True), ("", "1_b", "1_b"): (3, True)}),
    "methods": (make_methods, {("TE", "1", "beach"): (1, True), ("TE", "2", "2"): (2, True),
                               ("LAMA", "1", "1"): (1, True), ("LAMA", "2", "2"): (2, True),
                               (AUTHENTIC, "3", "3"): (3, False)}),
    "suffixes": (make_suffixes, {(method, str(seed), str(seed)): (seed, True)
                                 for method in ("GC", "SH") for seed in (1, 2)}),
    "authentic": (make_authentic, {(AUTHENTIC, "1", "1"): (1, False), (AUTHENTIC, "2", "2"): (2, False)}),
    "json": (make_json, {("", "1", "1"): (1, True), ("", "2", "2"): (2, True), (AUTHENTIC, "3", "3"): (3, False)}),
    "balanced": (make_balanced, {
        ("", "CASIA/1", "CASIA/1"): (1, True), ("", "CASIA/10", "CASIA/10"): (2, True),
        ("", "CASIA/1_b", "CASIA/1_b"): (3, True), ("", "list/1", "list/1"): (1, True),
        ("", "list/2", "list/2"): (2, True), (AUTHENTIC, "list/3", "list/3"): (3, False)}),
    "text": (make_text, {("", "1", "1"): (1, True), ("", "2", "2"): (2, True), (AUTHENTIC, "3", "3"): (3, False),
                         (AUTHENTIC, "a name with spaces", "a name with spaces"): (4, False)}),
    "npy": (make_npy, {("", "1", "1"): (1, True), ("", "2", "2"): (2, True), (AUTHENTIC, "3", "3"): (3, False)}),
    "csv": (make_csv, {("TE", "1", "beach"): (1, True), ("", "2", "2"): (2, True), (AUTHENTIC, "3", "3"): (3, False)}),
    "webdataset": (make_webdataset, {("TE", "a/1", "beach"): (1, True), ("", "2", "2"): (2, True),
                                     (AUTHENTIC, "3", "3"): (3, False)}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_detected_and_pairs_every_picture_with_its_own_mask(layout, tmp_path):
    make, expected = CASES[layout]
    found = read_dataset(make(tmp_path / "set"))
    assert found.layout == layout and not found.problems
    assert {(case.method, case.name, case.source) for case in found.cases} == set(expected)
    for case in found.cases:
        seed, masked = expected[case.method, case.name, case.source]
        image, marked = case.load()
        assert image.dtype == np.uint8 and (image == picture(seed)).all()
        assert marked.dtype == bool and (marked == (mask(seed) if masked else np.zeros((6, 8), bool))).all()
        assert (case.mask is not None) is masked


def flaw_pairs(folder):
    make_pairs(folder)
    (folder / "GT" / "10_gt.png").unlink()
    save(folder / "GT" / "lonely.png", mask(0))
    save(folder / "GT" / "1_b.png", mask(0))
    Image.fromarray(picture(5)).save(folder / "tp" / "1.bmp")
    return folder, {"no mask": "10.png", "mask without picture": "lonely.png", "several masks": "1_b.png",
                    "name used twice": "1.png"}, ["1"]


def flaw_methods(folder):
    make_methods(folder)
    (folder / "TE" / "masks" / "2.png").unlink()
    save(folder / "NS" / "loose.png", picture(5))
    save(folder / "PM" / "images" / "2.png", picture(5))
    (folder / "PM" / "masks").mkdir()
    return folder, {"no mask": "2.png", "folder not read": "NS"}, ["1", "1", "2", "3"]


def flaw_suffixes(folder):
    make_suffixes(folder)
    (folder / "GC" / "1.png").unlink()
    (folder / "SH" / "2_mask.png").unlink()
    return folder, {"mask without picture": "1_mask.png", "no mask": "2.png"}, ["1", "2"]


def flaw_json(folder):
    make_files(folder)
    rows = [["Tp/1.png", "Gt/1_gt.png"], ["Tp/1.png", "Gt/2_gt.png"], ["Tp/9.png", "Negative"], ["Tp/2.png"], 7]
    (folder / "list.json").write_text(json.dumps(rows))
    return folder / "list.json", {"name used twice": "1.png", "missing file": "list.json",
                                  "line not understood": "list.json"}, ["1"]


def flaw_balanced(folder):
    make_balanced(folder)
    (folder / "bad.json").write_text("{")
    rows = [["ManiDataset", "CASIA"], ["JsonDataset", "gone.json"], ["JsonDataset", "bad.json"], ["Strange", "x"]]
    (folder / "balanced.json").write_text(json.dumps(rows))
    return folder / "balanced.json", {"missing file": "balanced.json", "unreadable": "bad.json",
                                      "line not understood": "balanced.json"}, ["CASIA/1", "CASIA/10", "CASIA/1_b"]


def flaw_text(folder):
    make_files(folder)
    (folder / "list.txt").write_text("Tp/1.png Gt/1_gt.png 1\nTp/2.png None 1\nTp/2.png\nwhat is this?\n"
                                     "Tp/2.png Gt/gone.png 1")
    return folder / "list.txt", {"no mask": "Tp/2.png", "line not understood": "list.txt",
                                 "missing file": "list.txt"}, ["1"]


def flaw_csv(folder):
    make_files(folder)
    (folder / "list.csv").write_text("image,mask,method\nTp/1.png,Gt/1_gt.png,TE\nTp/2.png,,TE\nTp/2.png\n")
    return folder / "list.csv", {"no mask": "2.png", "line not understood": "list.csv"}, ["1"]


def flaw_webdataset(folder):
    make_webdataset(folder)
    shard(folder / "2.tar", {"2.png": png(picture(5)), "2.mask.png": png(mask(5)), "4.png": png(picture(4)),
                             "5.mask.png": png(mask(5)), "6.png": png(picture(6)), "6.json": b"{"})
    whole = shard(folder / "3.tar", {"7.png": png(picture(7)), "7.mask.png": png(mask(7)), "8.png": png(picture(8))})
    whole.write_bytes(whole.read_bytes()[:5 * 512 + 40])
    return folder, {"name used twice": "2.png", "no mask": "4.png", "mask without picture": "5.mask.png",
                    "unreadable": "3.tar"}, ["2", "3", "7", "a/1"]


@pytest.mark.parametrize("make", [flaw_pairs, flaw_methods, flaw_suffixes, flaw_json, flaw_balanced, flaw_text,
                                  flaw_csv, flaw_webdataset])
def test_each_flaw_is_told_and_hides_no_other_case(make, tmp_path):
    place, expected, names = make(tmp_path / "set")
    found = read_dataset(place)
    told = {problem.kind: Path(problem.file.split(":")[-1]) for problem in found.problems}
    assert set(told) == set(expected)
    for kind, name in expected.items():
        assert told[kind].as_posix().endswith(name), kind
    assert sorted(case.name for case in found.cases) == names
    first = next(problem for problem in found.problems if problem.severity == "error")
    with pytest.raises(UserError) as caught:
        read_by_method(place)
    assert str(caught.value).startswith(f"{first.file}: {first.what}")


@pytest.mark.parametrize("make, message", [
    (lambda folder: folder / "nowhere", "no such dataset"),
    (lambda folder: folder, "no layout fits; a folder may be webdataset"),
    (lambda folder: save(folder / "one.png", picture(0)), "no layout fits; a file may be .*json"),
    (lambda folder: make_pairs(folder) / "tp", "name the folder that holds both"),
    (lambda folder: make_pairs(folder) / "GT", "name the folder that holds both"),
    (lambda folder: _written(folder / "x.json", "{nothing"), "x.json: not JSON"),
    (lambda folder: _written(folder / "x.json", "[]"), "no pictures there"),
    (lambda folder: _written(folder / "x.json", "3"), "must be a JSON list"),
    (lambda folder: _written(folder / "x.npy", "text"), "not an array of strings"),
    (lambda folder: _written(folder / "x.npy", "PK\x03\x04"), "not an array of strings"),
    (lambda folder: _saved(folder / "x.npy", np.array([["a.png", "b.png"]], object)), "not an array of strings"),
    (lambda folder: _saved(folder / "x.npy", np.zeros((3, 2))), "N×2 of strings"),
    (lambda folder: _saved(folder / "x.npy", np.array(["a.png", "b.png"])), "N×2 of strings"),
    (lambda folder: _saved(folder / "x.txt", np.zeros(3)), "not a text file"),
])
def test_what_is_no_dataset_is_refused_in_one_line(make, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        read_dataset(make(tmp_path))
    assert "\n" not in str(caught.value)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _saved(path: Path, values: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=True)
    return path


def test_lists_that_name_each_other_and_impossible_paths_are_told(tmp_path):
    for own, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{own}.json").write_text(json.dumps({"it": f"{other}.json", "itself": f"{own}.json"}))
    assert [problem.kind for problem in read_dataset(tmp_path / "a.json").problems] == ["unreadable"] * 2
    (tmp_path / "c.json").write_text(json.dumps([["\0.png", "Negative"], ["x" * 5000, "Negative"]]))
    assert [problem.kind for problem in read_dataset(tmp_path / "c.json").problems] == ["missing file"] * 2


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
       suffix=st.sampled_from([".json", ".txt", ".npy", ".csv", ".tar"]))
def test_no_file_whatever_is_in_it_ends_in_another_error(tmp_path_factory, data, suffix):
    place = tmp_path_factory.getbasetemp() / f"any{suffix}"
    place.write_bytes(data)
    try:
        assert len(read_dataset(place).cases) == 0
    except UserError as error:
        assert str(error).startswith(str(place)) and "\n" not in str(error)


def test_a_named_layout_is_used_or_refused(tmp_path):
    make_methods(tmp_path)
    assert read_dataset(tmp_path / "TE", "pairs").layout == "pairs"
    assert read_dataset(tmp_path / "TE" / "images", "authentic").cases[0].mask is None
    for layout, message in (("coco", "layout 'coco': unknown; known are auto, webdataset"),
                            ("json", "a folder; the layout 'json' is a file"),
                            ("authentic", "no pictures there; the layout 'authentic' is pictures alone")):
        with pytest.raises(UserError, match=message):
            read_dataset(tmp_path, layout)


def test_relative_paths_start_from_the_list_then_from_the_root(tmp_path):
    make_files(tmp_path / "data")
    save(tmp_path / "lists" / "Tp" / "2.png", picture(5))
    (tmp_path / "lists" / "list.txt").write_text("Tp/1.png Gt/1_gt.png 1\nTp/2.png Gt/2_gt.png 1\n")
    found = read_dataset(tmp_path / "lists" / "list.txt", root=tmp_path / "data")
    assert [case.image for case in found.cases] == [tmp_path / "data" / "Tp" / "1.png",
                                                    tmp_path / "lists" / "Tp" / "2.png"]
    assert {problem.kind for problem in read_dataset(tmp_path / "lists" / "list.txt").problems} == {"missing file"}


def test_pictures_of_one_stem_in_a_list_keep_apart(tmp_path):
    for folder in ("first", "second"):
        save(tmp_path / folder / "1.png", picture(1))
    (tmp_path / "list.csv").write_text("first/1.png,\nsecond/1.png,\n")
    found = read_dataset(tmp_path / "list.csv").cases
    assert [case.name for case in found] == ["first/1", "second/1"]
    assert [case.source for case in found] == ["1", "1"]


def test_a_method_is_called_by_the_place_where_it_is_unknown(tmp_path):
    assert set(read_by_method(make_pairs(tmp_path / "Columbia"))) == {"Columbia"}
    assert list(read_by_method(make_csv(tmp_path))) == ["TE", "list", AUTHENTIC]
    (tmp_path / "list.csv").write_text("image,mask,method\nAu/3.png,,\nTp/1.png,Gt/1_gt.png,../SD/2\n")
    assert list(read_by_method(tmp_path / "list.csv")) == ["..-SD-2", AUTHENTIC]


stems = st.text("ab_mgtsk", min_size=1, max_size=7)


@settings(max_examples=200, deadline=None)
@given(st.sets(stems, max_size=6))
def test_masks_beside_pictures_are_told_from_pictures(bases):
    """Whatever pictures are called, as long as none is called like the mask of another, all are told apart."""
    bases = {base for base in bases if not base.endswith(("_mask", "_gt", "-mask", "-gt", "_groundtruth"))}
    files = [Path(f"{base}{end}.png") for base in bases for end in ("", "_mask")]
    assert owned_masks(files) == {f"{base}_mask": base for base in bases}


def test_the_photograph_of_a_gas_mask_is_a_picture():
    assert owned_masks([Path("gas_mask.png"), Path("gas_mask_mask.png")]) == {"gas_mask_mask": "gas_mask"}
    assert owned_masks([Path("gas.png"), Path("gas_mask.png")]) == {"gas_mask": "gas"}


@pytest.mark.parametrize("values, expected", [
    ([0, 1, 1, 0], [0, 1, 1, 0]), ([0, 255, 0, 0], [0, 1, 0, 0]), ([0, 1, 127, 128], [0, 0, 0, 1]),
    ([0, 0, 0, 0], [0, 0, 0, 0])])
def test_masks_of_0_and_1_and_of_0_and_255_are_read(values, expected):
    pixels = np.repeat(np.array(values, np.uint8).reshape(2, 2, 1), 3, 2)
    assert to_mask(pixels).ravel().tolist() == [bool(value) for value in expected]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=8)
members = st.builds(Member, texts.map(lambda text: Path(f"{text}.tar")), st.text("ab/é", min_size=1),
                    st.integers(0, 2**50), st.integers(0, 2**40))
paths = texts.map(lambda text: Path("f") / text)
cases = st.builds(Case, paths | members, st.none() | paths | members, texts, texts, texts)


@settings(max_examples=80, deadline=None)
@given(st.lists(cases, max_size=6), st.data())
def test_packed_cases_are_those_that_were_packed(given_cases, data):
    packed = pickle.loads(pickle.dumps(Cases(iter(given_cases))))
    assert list(packed) == given_cases and len(packed) == len(given_cases)
    rows = data.draw(st.lists(st.integers(0, max(0, len(packed) - 1)), max_size=5)) if given_cases else []
    chosen = packed.select(rows)
    assert list(chosen) == [given_cases[row] for row in rows]
    assert list(chosen[1:]) == list(chosen)[1:]
    for method, found in packed.by_method().items():
        assert list(found) == [case for case in given_cases if case.method == method]
    assert set(packed.by_method()) == {case.method for case in given_cases}
    with pytest.raises(IndexError):
        packed[len(packed)]


def test_many_cases_take_little_memory():
    def made():
        for index in range(20_000):
            key = f"scene/{index:08d}"
            yield Case(Member(Path("/data/set/000012.tar"), f"{key}.png", index, 9),
                       Member(Path("/data/set/000012.tar"), f"{key}.mask.png", index, 9), key, "TE", key)

    tracemalloc.start()
    packed = Cases(made())
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert packed.nbytes < 300 * len(packed) and held < 1.2 * packed.nbytes
    assert packed.by_method()["TE"].nbytes < 1.2 * packed.nbytes


def test_a_surrogate_in_a_name_survives():
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert Cases([Case(Path(name), None, name, "", name)])[0].image == Path(name)


def test_sources_are_split_whole_and_stay_where_they_are():
    def of(sources):
        return Cases(Case(Path(f"{source}-{part}.png"), None, source, "", source)
                     for source in sources for part in range(2))

    shares = {"train": 0.7, "val": 0.0, "test": 0.3}
    few = split_by_source(of(map(str, range(500))), shares)
    more = split_by_source(of(map(str, range(1000))), shares)
    sources = {name: {case.source for case in found} for name, found in more.items()}
    assert not sources["train"] & sources["test"] and len(more["val"]) == 0
    assert sum(map(len, more.values())) == 2000 and len(more["train"]) == 2 * len(sources["train"])
    # Four standard deviations of a binomial with 1000 draws.
    assert abs(len(sources["train"]) - 700) < 4 * np.sqrt(1000 * 0.7 * 0.3)
    assert all({case.source for case in few[name]} <= sources[name] for name in shares)
    with pytest.raises(UserError, match="sum to 1"):
        split_by_source(of("ab"), {"train": 0.7, "test": 0.7})
