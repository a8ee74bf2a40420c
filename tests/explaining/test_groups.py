import numpy as np
import pytest

from sklexplain.attribution import time_segments
from sklexplain.explaining import resolve_groups


def test_time_segments_cover_the_series():
    labels = time_segments(140, 10)
    assert len(labels) == 140
    assert labels[0] == "t0-13" and labels[-1] == "t126-139"
    assert len(set(labels)) == 10


@pytest.mark.parametrize("n_segments", [0, 141])
def test_time_segments_refuses_impossible_numbers(n_segments):
    with pytest.raises(ValueError, match=f"n_segments={n_segments}"):
        time_segments(140, n_segments)


def test_labels_broadcast_to_the_sample_and_keep_their_order():
    index, labels = resolve_groups(["b", "a", "b"], (2, 3))
    assert labels == ["b", "a"]
    np.testing.assert_array_equal(index, [[0, 1, 0], [0, 1, 0]])


def test_integer_labels_get_a_prefix():
    index, labels = resolve_groups([10, 2, 10], (3,))
    assert labels == ["group10", "group2"]
    np.testing.assert_array_equal(index, [0, 1, 0])


def test_dict_by_name_position_and_mask():
    names = ["age", "height", "weight", "blood"]
    index, labels = resolve_groups({"body": ["height", "weight"], "rest": [0, -1]}, (4,), names)
    assert labels == ["body", "rest"]
    np.testing.assert_array_equal(index, [1, 0, 0, 1])
    left = np.array([[True, False], [True, False]])
    index, _ = resolve_groups({"left": left, "right": ~left}, (2, 2))
    np.testing.assert_array_equal(index, [[0, 1], [0, 1]])


@pytest.mark.parametrize(
    "groups, shape, message",
    [
        ([0, 1], (3,), r"shape \(2,\).*\(3,\)"),
        ([0.5, 1.0, 2.0], (3,), "floats"),
        ({"a": ["x"]}, (3,), "no column 'x'"),
        ({"a": [5]}, (3,), "no column 5"),
        ({"a": [0, 1]}, (3,), r"leaves out \[\[2\]\]"),
        ({"a": [0, 1], "b": [1, 2]}, (3,), r"column \[1\] is in group 'b' and in another"),
        ({"a": [0, 1]}, (2, 2), "3 axes; give a boolean"),
        ({"a": np.ones(2, dtype=bool)}, (2, 2), r"mask of shape \(2,\)"),
    ],
)
def test_errors_name_what_is_wrong(groups, shape, message):
    with pytest.raises(ValueError, match=message):
        resolve_groups(groups, shape)
