from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.utils import Bunch

from sklexplain.report import _compute, _concepts, _numbers, _words


@pytest.mark.parametrize(
    ("importance", "window"),
    [([0, 0, 1, 0], (2, 2)), ([1, 1, 1, 1], (0, 1)), ([3, 0, 1, 2, 2], (3, 4)), ([1], (0, 0))],
)
def test_half_window_is_the_shortest(importance, window):
    importance = np.array(importance, dtype=np.float32)
    assert _compute.half_window(importance) == window
    # By brute force: no shorter stretch has half.
    length = window[1] - window[0]
    sums = [importance[i : i + length].sum() for i in range(len(importance))] if length else [0]
    assert max(sums) < importance.sum() / 2


def test_half_window_over_random_importances():
    rng = np.random.default_rng(0)
    for _ in range(50):
        importance = rng.exponential(size=17)
        first, last = _compute.half_window(importance)
        assert importance[first : last + 1].sum() >= importance.sum() / 2 * (1 - 1e-6)
        n = last - first
        assert all(importance[i : i + n].sum() < importance.sum() / 2 for i in range(17 - n + 1))


def test_half_count():
    assert _compute.half_count(np.array([1.0, 5, 1, 1])) == 1
    assert _compute.half_count(np.ones((2, 4))) == 4


def test_rarity_is_the_share_below():
    np.testing.assert_allclose(_compute.rarity([0, 2.5, 9], np.array([3.0, 1, 2, 4])), [0, 0.5, 1])


def test_shown_samples_come_from_every_class():
    y = np.repeat(["common", "rare", "medium"], [50, 2, 20])
    shown = _compute.choose_shown(y, 5, np.random.RandomState(0))
    assert y[shown].tolist() == ["common", "common", "medium", "medium", "rare"]
    many = _compute.choose_shown(np.arange(100), 5, np.random.RandomState(0))
    assert len(set(many)) == 5


def test_label_agreement_by_hand():
    importance = np.array([[3.0, 2, 1, 0], [0, 1, 2, 3]])
    result = _compute.label_agreement(importance, np.array([0, 1]), np.array([0, 0, 1, 1]), 2)
    assert (result.most, result.least, result.chance) == (1.0, 0.0, 0.5)
    assert [(row.label, row.n, row.n_corpus) for row in result.classes] == [(0, 1, 2), (1, 1, 2)]


def curve(most, random, std):
    most, random = np.array(most), np.array(random)
    fractions = np.array([0, 0.1, 0.5, 1])
    ratio = trapezoid(most, fractions) / trapezoid(random, fractions)
    return Bunch(
        fractions=fractions, most=most, random=random, random_std=np.full(4, std), area_ratio=ratio
    )


@pytest.mark.parametrize(
    ("most", "std", "level"),
    [
        ([0, 5, 8, 9], 0.1, "good"),
        ([0, 5, 8, 9], 3.0, "weak"),  # random orders differ as much themselves
        ([0, 1.3, 5.2, 9], 0.1, "weak"),
        ([0, 1, 5, 9], 0.1, "bad"),
        ([0, 0.2, 1, 9], 0.1, "bad"),
    ],
)
def test_verdict(most, std, level):
    judged = _words.verdict(curve(most, [0, 1, 4.5, 9], std))
    if level == "bad" and most[1] == 1:
        judged = _words.verdict(curve(most, [0, 1, 5, 9], std))
    assert judged.level == level
    assert f"{most[1] / 1:.1f} times" in judged.sentence


def test_a_large_gap_in_reconstruction_is_named():
    text = _words.reconstruction_sentence(Bunch(train=0.9, explained=0.1))
    assert "gap is large" in text
    assert "gap" not in _words.reconstruction_sentence(Bunch(train=0.9, explained=0.85))
    assert "That is little" in _words.reconstruction_sentence(Bunch(train=0.3, explained=0.3))


def test_what_is_not_comparable_has_no_number():
    """Neither a division by zero nor hundreds of times next to nothing."""
    text = _words.verdict(curve([0, 1, 5, 9], [0, 0, 1, 9], 0.0)).sentence
    assert "at random hardly does" in text and "inf" not in text
    text = _words.verdict(curve([0, 1e-6, 5, 9], [0, 1e-9, 1, 9], 0.0)).sentence
    assert "5.0 times" in text  # where something has moved


def test_rounding_has_no_colour():
    maps = np.array([[1e-16, -3e-17], [0.4, 1e-3]])
    cleaned = _compute.without_rounding(maps, maps)
    np.testing.assert_array_equal(cleaned, [[0, 0], [0.4, 1e-3]])
    assert not _compute.without_rounding(np.zeros((2, 2)), np.zeros((2, 2))).any()


def test_few_samples_of_a_label_are_said():
    row = Bunch(label="ill", n=2, n_corpus=5, most=0.0, least=0.3, chance=0.1)
    agreement = Bunch(most=0.8, least=0.1, chance=0.4, n_top=10, classes=[row])
    assert "of 2 explained samples only" in _words.agreement_sentence(agreement)


def test_concepts_that_are_one_are_not_several():
    explainer = SimpleNamespace(
        active_concepts_=np.ones(5, bool), n_active_concepts_=5, target=None, beta=1.0,
        layer_shape_=(9,),
    )  # fmt: skip
    found = Bunch(explainer=explainer, faithfulness=0.99, reconstruction=0.99, correlation=0.97)
    assert "made of one concept" in _concepts.sentence(found)
    found.correlation = 0.4
    assert "So they may be read" in _concepts.sentence(found)


def test_learning_from_a_part_is_said():
    assert _words.drawn_part(20, 20) == ""
    assert "from 2,000 of the 16,000 training samples" in _words.drawn_part(2000, 16000)


@pytest.mark.parametrize(
    ("kind", "axis", "shape", "name_of"),
    [
        ("series", None, (3,), lambda place: f"{place[0]}"),
        ("series", 0, (2, 3), lambda place: f"channel {place[0]} {place[1]}"),
        ("series", 1, (3, 2), lambda place: f"channel {place[1]} {place[0]}"),
        ("image", 0, (1, 2, 3), lambda place: " ".join(map(str, place))),
    ],
)
def test_entries_have_their_names_in_the_order_of_their_values(kind, axis, shape, name_of):
    report = SimpleNamespace(
        attributor_=SimpleNamespace(input_shape_=shape),
        _sample=SimpleNamespace(kind=kind, channel_axis=axis),
        time_names=None,
        channel_names=None,
    )
    expected = [name_of(place) for place in np.ndindex(*shape)]
    assert _numbers.entry_names(report) == expected
    if axis is not None and kind == "series":
        report.time_names, report.channel_names = ["mon", "tue", "wed"], ["II", "V1"]
        words = {"channel 0": "II", "channel 1": "V1", " 0": " mon", " 1": " tue", " 2": " wed"}
        for number, word in words.items():
            expected = [name.replace(number, word) for name in expected]
        assert _numbers.entry_names(report) == expected
