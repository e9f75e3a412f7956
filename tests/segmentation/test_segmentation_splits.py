"""Parts of pairs: by patient, by source, held out, or given by the table."""

import pytest

from enhancement.errors import InputError
from segmentation.pairs import Pair
from segmentation.splits import split_pairs


def many(patients=40, each=2, sources=("east", "west")):
    return [Pair(f"{s}{p}_{i}", (), s, group=f"{s}{p}") for s in sources for p in range(patients) for i in range(each)]


def test_no_patient_is_on_two_sides_and_every_source_on_all():
    pairs = many()
    sides = split_pairs(pairs, seed=3)
    by_group = {}
    for pair, side in zip(pairs, sides, strict=True):
        assert by_group.setdefault(pair.group, side) == side
    for source in ("east", "west"):
        own = [s for p, s in zip(pairs, sides, strict=True) if p.source == source]
        assert [own.count(s) / len(own) for s in ("train", "validation", "test")] == pytest.approx(
            [0.7, 0.15, 0.15], abs=0.03
        )


def test_the_split_follows_the_seed_and_not_the_order():
    pairs = many()
    first = dict(zip((p.image for p in pairs), split_pairs(pairs, seed=1), strict=True))
    turned = pairs[::-1]
    assert first == dict(zip((p.image for p in turned), split_pairs(turned, seed=1), strict=True))
    assert first != dict(zip((p.image for p in pairs), split_pairs(pairs, seed=2), strict=True))


def test_sources_can_be_kept_whole_or_held_out():
    pairs = many(10, 1, ("a", "b", "c", "d"))
    sides = split_pairs(pairs, by="source")
    assert all(len({s for p, s in zip(pairs, sides, strict=True) if p.source == name}) == 1 for name in "abcd")
    held = split_pairs(pairs, holdout=["c"])
    assert {s for p, s in zip(pairs, held, strict=True) if p.source == "c"} == {"test"}


def test_a_split_in_the_table_is_kept_and_checked():
    pairs = [Pair(f"{i}", (), group=g, split=s) for i, (g, s) in enumerate([("a", "train"), ("b", "test")])]
    assert split_pairs(pairs) == ["train", "test"]
    with pytest.raises(InputError, match="'a' is both"):
        split_pairs([*pairs, Pair("2", (), group="a", split="test")])


def given(*rows):
    return [Pair(f"{i}", (), source, group=group, split=split) for i, (source, group, split) in enumerate(rows)]


def test_a_held_out_source_is_tested_whole_whatever_the_table_says():
    pairs = given(
        ("east", "a", "train"),
        ("west", "b", "train"),
        ("east", "c", "validation"),
        ("west", "", "validation"),
        ("east", "", "train"),
        ("west", "d", "test"),
    )
    assert split_pairs(pairs, holdout=["west"]) == ["train", "test", "validation", "test", "train", "test"]


def test_patients_of_a_held_out_source_are_not_trained_on_elsewhere():
    pairs = given(("east", "a", "train"), ("west", "a", "train"), ("east", "b", "train"), ("east", "c", "validation"))
    assert split_pairs(pairs, holdout=["west"]) == ["test", "test", "train", "validation"]


@pytest.mark.parametrize(("side", "other"), [("train", "validation"), ("validation", "train")])
def test_a_holdout_that_leaves_nothing_of_a_given_split_is_refused(side, other):
    pairs = given(("west", "a", side), ("east", "b", other), ("west", "c", other), ("east", "d", "test"))
    with pytest.raises(InputError, match=f"holdout: all 1 pairs .* to {side} are of west.* hold out less"):
        split_pairs(pairs, holdout=["west"])


def test_a_holdout_that_is_not_there_is_refused_beside_a_given_split():
    with pytest.raises(InputError, match="holdout: no source 'north'; there are east, west"):
        split_pairs(given(("east", "a", "train"), ("west", "b", "test")), holdout=["north"])


def test_a_split_that_only_some_pairs_carry_is_refused():
    pairs = given(("east", "a", "train"), ("east", "b", ""), ("west", "c", ""))
    with pytest.raises(InputError, match="split: 2 of 3 pairs have none, the first "):
        split_pairs(pairs)


def test_held_out_pairs_need_no_split_of_their_own():
    pairs = given(("east", "a", "train"), ("east", "b", "validation"), ("west", "c", ""))
    assert split_pairs(pairs, holdout=["west"]) == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        (many(1, 4), {}, "nothing for"),
        (many(), {"by": "source"}, "nothing for"),
        (many(), {"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        (many(), {"holdout": ["north"]}, "east, west"),
        (many(), {"holdout": ["east", "west"]}, "fewer sources to hold out"),
        (many(), {"by": "image"}, "patient or source"),
    ],
)
def test_an_impossible_split_is_refused(pairs, options, message):
    with pytest.raises(InputError, match=message):
        split_pairs(pairs, **options)
