"""What a sample is compared with: the mean of normal neighbours, or its reconstruction."""

import numpy as np
from sklearn.utils import _safe_indexing
from skorch import NeuralNet
from torch import nn

from ..representation import (
    Representation,
    named_steps,
    reconstructed_inputs,
    represent,
    unwrap,
    with_residuals,
)
from ._neighbors import Neighbors, mean_of
from ._scores import OF_RESIDUALS

_AT_ONCE = 2**14  # samples


class References:
    """Each sample's own reference.

    It holds numbers only. Where another network has to be run than that of the score (that of the
    code, or the way back to raw columns) its explainer keeps it, as it does its own.

    Parameters
    ----------
    explainer : AnomalyAttributor
        In ``fit``.
    baseline : {"auto", "neighbors", "reconstruction"}
        Which reference.
    corpus : ndarray of shape (n_train, ...)
        Normal samples as they enter the network of the score.
    X : ndarray, DataFrame or list
        All samples in raw units.
    train : ndarray of int
        Which of them are the corpus.

    Attributes
    ----------
    name : {"neighbors", "reconstruction"}
        What was chosen.

    Raises
    ------
    ValueError
        If a reconstruction is asked for and there is none, or no way back to what enters.
    """

    def __init__(self, explainer, baseline, corpus, X, train):
        self.name, self._facts, self._neighbors = baseline, None, None
        self._whole, self._rounded, self._of_score = False, False, False
        if baseline != "neighbors":
            obstacle = self._find_way_back(explainer, corpus, X)
            if obstacle is not None and baseline == "reconstruction":
                raise ValueError(f"baseline='reconstruction' {obstacle}; use baseline='neighbors'.")
            self.name = "reconstruction" if obstacle is None else "neighbors"
        if self.name == "neighbors":
            self._learn_neighbors(explainer, corpus, X, train)

    def _find_way_back(self, explainer, corpus, X):
        """Return why there is no reconstruction of what enters the network, None if there is."""
        if explainer._kind_at_fit not in OF_RESIDUALS:
            return "is what a model makes of a sample that reconstructs, and this is a score only"
        representation = explainer._representation
        residuals = representation.activations(corpus[:1], 1)
        if reconstructed_inputs(representation, corpus[:1], residuals) is not None:
            return None
        whole = with_residuals(explainer.estimator_, whole=True)
        if whole is None:
            return (
                "needs the way back to X's columns, and not every step of the Pipeline has an "
                "inverse_transform"
            )
        self._whole = True
        self._make_other(explainer, whole, X)
        return None

    def _learn_neighbors(self, explainer, corpus, X, train):
        representation = explainer._representation
        self._of_score = explainer._kind_at_fit == "callable"
        params = None if self._of_score else _code_params(explainer)
        if params is not None:
            self._make_other(explainer, explainer.estimator_, X, **params)
        codes = None
        if self._of_score or params is not None:
            codes = self._codes(explainer, corpus, _safe_indexing(X, train))
        table = representation.table
        self._neighbors = Neighbors(corpus, codes, None if table is None else table.coded)
        if table is not None:
            # Integers may be categories, and their mean none of them.
            self._rounded = not representation.takes(table.typical(corpus)[None])

    def _make_other(self, explainer, estimator, X, **params):
        params = {"device": explainer._params_at_fit.device, "seed": explainer.seed_, **params}
        other = represent(estimator, explainer.n_features_in_, X=X, **params)
        other.forget_recordings()
        explainer._other_of_fit = other
        self._facts = other.probe, other.table, params

    def _other(self, explainer):
        """Return the other network, made anew after loading."""
        found = vars(explainer).get("_other_of_fit")
        if found is None:
            probe, table, params = self._facts
            estimator = explainer.estimator_
            estimator = with_residuals(estimator, whole=True) if self._whole else estimator
            found = explainer._other_of_fit = Representation(
                estimator, explainer.n_features_in_, probe=probe, table=table, **params
            )
        return found

    def _codes(self, explainer, inputs, X):
        """Codes of samples; None where neighbours are found in their columns."""
        rows = explainer._params_at_fit.batch_size
        if self._of_score:
            return explainer._representation.activations(inputs, rows)
        if self._facts is None:
            return None
        return self._run_other(explainer, X)[1]

    def _run_other(self, explainer, X):
        """Return samples as they enter the other network, and what it computes."""
        other = self._other(explainer)
        with other.reading():
            inputs = other.inputs(X)
            return inputs, other.activations(inputs, explainer._params_at_fit.batch_size)

    def __call__(self, explainer, inputs, X):
        """Find what samples are compared with.

        Parameters
        ----------
        explainer : AnomalyAttributor
            Whose networks are run.
        inputs : ndarray of shape (n, ...)
            Samples as they enter the network of the score.
        X : ndarray, DataFrame or list
            The same in raw units.

        Returns
        -------
        references : ndarray of shape (n, ...)
            As they enter the network.
        """
        representation, params = explainer._representation, explainer._params_at_fit
        if self.name == "reconstruction":
            if self._whole:
                given, residuals = self._run_other(explainer, X)
                return given - residuals.reshape(given.shape)
            residuals = representation.activations(inputs, params.batch_size)
            return reconstructed_inputs(representation, inputs, residuals)
        codes = self._codes(explainer, inputs, X)
        rows, counted = self._neighbors(inputs, codes, params.n_neighbors)
        own = np.empty(inputs.shape, self._dtype(representation, inputs))
        corpus = self._neighbors.inputs
        if representation.table is None and not representation.takes_integers:
            own[...] = self._neighbors.means(rows, counted)
            return own
        for i in range(len(own)):
            own[i] = mean_of(corpus[rows[i]], counted[i], representation, self._rounded)
        return own

    @staticmethod
    def _dtype(representation, inputs):
        """Dtype in which a mean of samples is one of them, as far as there is any."""
        whole = inputs.dtype.kind in "iub" and not representation.takes_integers
        return np.dtype(np.float64) if whole else inputs.dtype


class ReferencesByRows:
    """References of many samples, found as they are asked for: mostly from the first to the last.

    Parameters
    ----------
    references : References
        What finds them.
    explainer : AnomalyAttributor
        Whose networks are run.
    inputs : Rows of shape (n, ...)
        Samples as they enter the network of the score.
    X : array of shape (n, ...)
        The same in raw units.
    """

    def __init__(self, references, explainer, inputs, X):
        self._find = lambda rows: references(explainer, inputs[rows], X[rows])
        self._first, self._held = 0, ()

    def __getitem__(self, positions):
        """Return references of samples at some positions."""
        first, end = int(np.min(positions)), int(np.max(positions)) + 1
        if not self._first <= first < end <= self._first + len(self._held):
            if end - first > len(positions):  # some samples once more, here and there
                return self._find(positions)
            # Many at once, as an index of neighbours is made every time.
            self._first = first
            self._held = self._find(slice(first, max(end, first + _AT_ONCE)))
        return self._held[positions - self._first]


def _code_params(explainer):
    """Say where the code is, as arguments of `represent`; None where there is none."""
    layer = explainer._params_at_fit.layer
    if layer is not None:
        return {"layer": layer}
    if explainer._kind_at_fit == "decision":
        return None
    last = explainer.estimator_
    while True:
        last = unwrap(last)
        steps = named_steps(last) if hasattr(last, "steps") else []
        if not steps:
            break
        last = steps[-1][1]
    if not isinstance(last, (nn.Module, NeuralNet)):
        return {}
    network = last.module_ if isinstance(last, NeuralNet) else last
    has_encoder = isinstance(getattr(network, "encoder", None), nn.Module)
    return {"layer": "encoder", "several": True} if has_encoder else None
