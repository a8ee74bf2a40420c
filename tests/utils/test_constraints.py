import numpy as np
import pytest
import torch

from sklexplain import DKNNImportance, LabelFreeAttributor, SimplExImportance, SRAEExplainer
from sklexplain.base import BaseExplainer
from sklexplain.utils import (
    NONE,
    SEED,
    Choice,
    Device,
    Entries,
    Flag,
    Integer,
    Number,
    Numbers,
    check_param,
)

RIGHT = [
    (Integer(), np.int8(3), 3),
    (Integer(), True, None),
    (Integer(0), 0, 0),
    (Integer(0, 5), 6, None),
    (Integer(), 2.0, None),
    (Number(), np.float32(0.5), 0.5),
    (Number(), 3, 3.0),
    (Number(), True, None),
    (Number(), float("nan"), None),
    (Number(), float("inf"), None),
    (Number(), 10**400, None),
    (Number(above=0), 0, None),
    (Number(at_least=0, below=1), 0, 0.0),
    (Number(at_least=0, below=1), 1, None),
    (Number(), "1", None),
    (Flag(), np.False_, False),
    (Flag(), 0, None),
    (Flag(), "false", None),
    (Choice("a", "b"), np.str_("a"), "a"),
    (Choice("a", "b"), np.array(["a", "b"]), None),
    ((Choice("a"), NONE), None, None),
    (Entries("sizes", Integer(), "size"), np.array([1, 2]), (1, 2)),
    (Entries("sizes", Integer(), "size"), [], ()),
    (Entries("sizes", Integer(), "size", empty=False), [], None),
    (Entries("sizes", Integer(), "size"), "12", None),
    (Entries("sizes", Integer(), "size"), torch.tensor(2), None),
    (SEED, np.int64(7), 7),
    (SEED, -1, None),
    (SEED, 2**32, None),
    (Device(), "cpu", "cpu"),
    (Device(), "meta", None),
    (Device(), "foo", None),
    (Device(), 0, None),
]


@pytest.mark.parametrize("constraint, value, checked", RIGHT)
def test_values(constraint, value, checked):
    if checked is None and not (isinstance(constraint, tuple) and value is None):
        with pytest.raises((TypeError, ValueError), match="^size="):
            check_param("size", value, constraint)
        return
    result = check_param("size", value, constraint)
    assert result == checked and type(result) is type(checked)


def test_messages():
    class NoRepr:
        def __repr__(self):
            raise RuntimeError("no repr")

    for value, message in [
        (0, r"^size=0 must be at least 1\.$"),
        ("x", r"^size='x' must be an integer or None\.$"),
        (np.zeros((100, 100)), r"^size=array\(.* must be an integer or None\.$"),
        (NoRepr(), r"must be an integer or None\.$"),
        ("a" * 10_000, r"^size='.{60,100}' must be"),
    ]:
        with pytest.raises(ValueError, match=message):  # as in scikit-learn, whatever is wrong
            check_param("size", value, (Integer(), NONE))
    with pytest.raises(TypeError):
        check_param("size", "x", Integer())
    with pytest.raises(ValueError, match="Did you mean 'mean'"):
        check_param("how", "maen", Choice("mean", "abs"))


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


def test_what_is_set_after_fit_is_checked_where_it_counts_at_once():
    explainer = LabelFreeAttributor(torch.nn.Linear(4, 3)).fit(X)
    expected = explainer.transform(X[:5])
    np.testing.assert_allclose(
        explainer.set_params(batch_size=np.int8(2)).transform(X[:5]), expected, atol=1e-6
    )
    with pytest.raises(TypeError, match="batch_size='x' must be an integer"):
        explainer.set_params(batch_size="x").transform(X[:5])


def test_nothing_is_allocated_for_minutes():
    network = torch.nn.Linear(4, 3)
    with pytest.raises(ValueError, match="n_concepts=1000000000 must be at most 10000"):
        SRAEExplainer(network, n_concepts=10**9).fit(X)
    with pytest.raises(ValueError, match="hidden_layer_sizes=.* the width 1000000000, which must"):
        SRAEExplainer(network, hidden_layer_sizes=(10**9,)).fit(X)


def test_a_table_of_a_users_own_explainer():
    class Scaled(BaseExplainer):
        _constraints = {"factor": Number(above=0)}

        def __init__(self, estimator, *, factor=1.0, layer="anything"):
            self.estimator = estimator
            self.factor = factor
            self.layer = layer

        def _explained(self):
            return {}

        def _transform(self, inputs):
            return self._params_at_fit.factor * inputs

    network = torch.nn.Linear(4, 3)
    with pytest.raises(ValueError, match="factor=-1 must be positive"):
        Scaled(network, factor=-1).fit(X)
    np.testing.assert_array_equal(Scaled(network, factor=2).fit(X).transform(X), 2 * X)


@pytest.mark.parametrize("value", [[1, 2], (0.5, 1), [[1], [2]], [], np.ones(3), torch.ones(3)])
def test_numbers_in_any_container(value):
    assert check_param("weights", value, Numbers()) is value


@pytest.mark.parametrize("value", [[[1, 2], [3]], ["x"], [None], np.array(["a"]), "12", {1: 2}])
def test_no_numbers(value):
    with pytest.raises(ValueError, match="weights="):
        check_param("weights", value, Numbers())
