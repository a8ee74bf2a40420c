import fractions

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import HasMethods, InvalidParameterError

from sklexplain import DKNNImportance, LabelFreeAttributor, SimplExImportance, SRAEExplainer
from sklexplain.base import BaseExplainer
from sklexplain.utils import (
    FLAG,
    JOBS,
    NONE,
    SEED,
    Choice,
    Device,
    Entries,
    Integer,
    Number,
    Numbers,
    check_param,
    validated,
)

RIGHT = [
    (Integer(), np.int8(3), 3),
    (Integer(), 10**30, 2**62),
    (Integer(0), 0, 0),
    (Integer(None), -7, -7),
    (Integer(None, 5), -7, -7),
    (Number(), np.float32(0.5), 0.5),
    (Number(), np.longdouble(0.5), 0.5),
    (Number(), fractions.Fraction(1, 2), 0.5),
    (Number(), 3, 3.0),
    (Number(above=0), 1e-300, 1e-300),
    (Number(at_least=0, below=1), 0, 0.0),
    (FLAG, np.False_, False),
    (Choice("a", "b"), np.str_("a"), "a"),
    (Entries("sizes", Integer()), np.array([1, 2]), (1, 2)),
    (Entries("sizes", Integer()), [], ()),
    (SEED, np.int64(7), 7),
    (JOBS, np.int8(-1), -1),
    (Device(), "cpu", "cpu"),
    (Device(), torch.device("cpu"), torch.device("cpu")),
]
WRONG = [
    (
        Integer(),
        [True, np.True_, 0, -1, 2.0, np.float64(2), "2", np.array(2), torch.tensor(2), None],
    ),
    (Integer(0, 5), [6, -1]),
    (Number(), [True, float("nan"), float("inf"), np.longdouble("inf"), 10**400, 1j, "1", None]),
    (Number(above=0), [0, -1e-300]),
    (Number(at_least=0, below=1), [1, 1.0, -0.1]),
    (FLAG, [0, 1, 1.5, np.nan, "false", "False", "", None, np.array([True]), []]),
    (Choice("a", "b"), ["c", np.array(["a", "b"]), ["a"], None, b"a"]),
    (Entries("sizes", Integer()), ["12", [0], [True], {1: 2}, {1}, torch.tensor(2), np.eye(2), 3]),
    (SEED, [-1, 2**32, 1.5, "0", np.random.default_rng(0)]),
    (JOBS, [0, True, 1.0, 10**9]),
    (Device(), ["meta", "foo", "cuda:99", 0, None]),
    (Numbers(), [[[1, 2], [3]], ["x"], [None], np.array(["a"]), "12", {1: 2}, 3]),
]


@pytest.mark.parametrize("constraint, value, checked", RIGHT)
def test_right_values_become_pythons(constraint, value, checked):
    result = check_param("Owner", "size", value, [constraint])
    assert result == checked and type(result) is type(checked)


@pytest.mark.parametrize(
    "constraint, value", [(constraint, value) for constraint, values in WRONG for value in values]
)
def test_wrong_values(constraint, value):
    words = r"^The 'size' parameter of Owner must be .+\. Got .+ instead\."
    with pytest.raises(InvalidParameterError, match=words):
        check_param("Owner", "size", value, [constraint])


@pytest.mark.parametrize("value", [[1, 2], (0.5, 1), [[1], [2]], [], np.ones(3), torch.ones(3)])
def test_numbers_in_any_container(value):
    assert check_param("Owner", "weights", value, [Numbers()]) is value


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "value, constraints, end",
    [
        (0, [Integer()], r"must be an int in the range \[1, inf\)\. Got 0 instead\.$"),
        (2, [Integer(None, 1), NONE], r"an int in the range \(-inf, 1\] or None\. Got 2 instead\."),
        ("x", [Number(above=0)], r"a float in the range \(0\.0, inf\)\. Got 'x' instead\.$"),
        (1, [FLAG], r"an instance of 'bool' .*\. Got 1 instead\.$"),
        (np.zeros((100, 100)), [Integer()], r"Got array\(.{,200} instead\.$"),
        (NoRepr(), [Integer()], r"Got <NoRepr instance at .*> instead\.$"),
        ("a" * 10_000, [Integer()], "Got '.{60,100}' instead"),
        (
            "maen",
            [Choice("mean", "abs")],
            r"a str among \{'mean', 'abs'\}\. .* Did you mean 'mean'",
        ),
        (["maen"], [Entries("names", Choice("mean"))], r"instead\. Did you mean 'mean'\?$"),
        ("gpu7", [Device(), NONE], r"Got 'gpu7' instead\. It cannot be used here: "),
        ("meta", [Device(), NONE], r"Got 'meta' instead\. It holds no numbers\.$"),
    ],
)
def test_messages(value, constraints, end):
    with pytest.raises(InvalidParameterError, match=end) as caught:
        check_param("Owner", "how", value, constraints)
    assert str(caught.value).startswith("The 'how' parameter of Owner must be ")
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, TypeError)


X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)


def test_numbers_of_numpy_do_as_pythons():
    network = torch.nn.Linear(4, 3)
    # Of eight bits: what it is added to must not overflow.
    small = DKNNImportance(network, batch_size=np.int8(100), n_neighbors=np.int8(3)).fit(X)
    plain = DKNNImportance(network, batch_size=100, n_neighbors=3).fit(X)
    np.testing.assert_array_equal(small.transform(X).toarray(), plain.transform(X).toarray())
    small = SimplExImportance(network, n_keep=np.uint8(5), n_jobs=np.uint8(1)).fit(X[:40])
    plain = SimplExImportance(network, n_keep=5, n_jobs=1).fit(X[:40])
    np.testing.assert_array_equal(
        small.transform(X[:5]).toarray(), plain.transform(X[:5]).toarray()
    )


def test_nothing_is_checked_before_fit():
    network = torch.nn.Linear(4, 3)
    explainer = LabelFreeAttributor(network, center="false").set_params(absolute=2)
    assert explainer.get_params()["center"] == "false"
    with pytest.raises(ValueError, match="The 'center' parameter of LabelFreeAttributor must be"):
        explainer.fit(X)


def test_what_is_set_after_fit_is_checked_where_it_counts_at_once():
    explainer = LabelFreeAttributor(torch.nn.Linear(4, 3)).fit(X)
    expected = explainer.transform(X[:5])
    np.testing.assert_allclose(
        explainer.set_params(batch_size=np.int8(2)).transform(X[:5]), expected, atol=1e-6
    )
    with pytest.raises(TypeError, match="The 'batch_size' parameter of LabelFreeAttributor"):
        explainer.set_params(batch_size="x").transform(X[:5])
    explainer.set_params(batch_size=2, center="false")  # counts in the next fit
    np.testing.assert_allclose(explainer.transform(X[:5]), expected, atol=1e-6)


def test_nothing_is_allocated_for_minutes():
    network = torch.nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"'n_concepts' .* range \[1, 100000\]\. Got 1000000000"):
        SRAEExplainer(network, n_concepts=10**9).fit(X)
    with pytest.raises(ValueError, match=r"'hidden_layer_sizes' .* Got \(1000000000,\)"):
        SRAEExplainer(network, hidden_layer_sizes=(10**9,)).fit(X)


class Scaled(BaseExplainer):
    """An explainer of a user's, with constraints of scikit-learn's and of ours."""

    _parameter_constraints = {
        "factor": [Number(above=0)],
        "flag": ["boolean"],
        "splitter": [HasMethods("split"), None],
        "anything": "no_validation",
    }

    def __init__(
        self, estimator, *, factor=1.0, flag=False, splitter=None, anything=None, layer=None
    ):
        self.estimator = estimator
        self.factor = factor
        self.flag = flag
        self.splitter = splitter
        self.anything = anything
        self.layer = layer

    def _explained(self):
        return {}

    def _transform(self, inputs):
        return self._params_at_fit.factor * inputs


@pytest.mark.parametrize("wrong", [{"factor": -1}, {"flag": 1}, {"splitter": 3}, {"layer": 3}])
def test_a_table_of_a_users_own_explainer(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Scaled must be"):
        Scaled(torch.nn.Linear(4, 3), **wrong).fit(X)


def test_a_users_own_explainer():
    network = torch.nn.Linear(4, 3)
    scaled = Scaled(network, factor=np.float64(2), anything=object()).fit(X)
    np.testing.assert_array_equal(scaled.transform(X), 2 * X)


@validated(how=[Choice("up", "down")], times=[Integer(), None])
def repeated(value, how="up", *, times=None, **others):
    """Return what it was given."""
    return value, how, times, others


def test_functions():
    assert repeated(1, times=np.int8(2), more=3) == (1, "up", 2, {"more": 3})
    assert type(repeated(1, times=np.int8(2))[2]) is int
    assert repeated.__doc__ == "Return what it was given."
    with pytest.raises(ValueError, match="The 'how' parameter of repeated .* Did you mean 'down'"):
        repeated(1, "dwn")
    with pytest.raises(TypeError, match=r"repeated\(\) missing 1 required positional argument"):
        repeated()


def test_a_functions_default_has_to_be_allowed():
    with pytest.raises(InvalidParameterError, match="'times' parameter of function .* Got None"):

        @validated(times=[Integer()])
        def function(times=None):
            pass
