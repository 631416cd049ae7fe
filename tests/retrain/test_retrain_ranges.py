"""Ranges as they are written, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from retrain.ranges import Choice, Span, parse_range, split_ranges

KEY = "retrain.learning_rate"


@pytest.mark.parametrize("text, expected", [
    ("1..8", Span(1, 8)), ("-2..3", Span(-2, 3)), ("0.5..1", Span(0.5, 1)), ("1.0..8", Span(1.0, 8)),
    ("log:1e-4..1e-2", Span(1e-4, 1e-2, True)), ("log:1..64", Span(1, 64, True)),
    ("choice:4,8", Choice(("4", "8"))), ("choice:true, false", Choice(("true", "false"))),
    ("choice:[TE],[TE,NS],{a: 1, b: [1, 2]}", Choice(("[TE]", "[TE,NS]", "{a: 1, b: [1, 2]}"))),
    ("3e-3", None), ("adam", None), ("../photos", None), ("[resize-0.5..1+jpeg-60..95]", None), ("a..b", None),
    ("postgresql://me@host/db", None),
])
def test_a_range_is_told_from_a_plain_value(text, expected):
    found = parse_range(KEY, text)
    assert found == expected
    if isinstance(found, Span):
        assert found.integers == all(part.strip("-").isdigit() for part in text.removeprefix("log:").split(".."))


@pytest.mark.parametrize("text, reason", [
    ("8..1", "LOW less than HIGH"), ("2..2", "LOW less than HIGH"), ("log:5", "numbers"), ("log:a..b", "numbers"),
    ("log:0..1", "positive"), ("log:-1..1", "positive"), ("log:1..inf", "numbers"), ("choice:4", "two or more"),
    ("choice:4,4", "two or more"), ("choice:4,", "two or more"), ("choice:", "two or more"),
])
def test_a_range_that_draws_nothing_is_refused(text, reason):
    with pytest.raises(UserError, match=f"^{KEY}=.*{reason}"):
        parse_range(KEY, text)


@given(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)).filter(lambda ends: ends[0] < ends[1]), st.booleans())
def test_a_span_is_read_as_it_is_shown(ends, log):
    span = Span(*ends, log)
    assert parse_range(KEY, str(span)) == span
    assert all(ends[0] <= float(probe) <= ends[1] for probe in span.probes())


def test_ranges_are_told_from_overrides():
    ranges, plain = split_ranges(["retrain.epochs=3", f"{KEY}=log:1e-4..1e-2", "precision=choice:32-true,bf16-mixed",
                                  "forgeries.perturbations=[jpeg-60..95]"])
    assert list(ranges) == [KEY, "precision"]
    assert plain == ("retrain.epochs=3", "forgeries.perturbations=[jpeg-60..95]")


@pytest.mark.parametrize("words, reason", [
    ([f"{KEY}=1..2", f"{KEY}=1..3"], "two ranges"), (["search.epochs=1..3"], "cannot be tuned"),
    (["seed=1..3"], "cannot be tuned"), (["retrain.validation_images=8..16"], "cannot be tuned"),
    (["retrain.detectors=choice:[hpfcn],[mantranet]"], "cannot be tuned"),
])
def test_what_trainings_are_compared_by_is_not_tuned(words, reason):
    with pytest.raises(UserError, match=reason):
        split_ranges(words)
