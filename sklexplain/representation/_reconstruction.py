"""Estimators that reconstruct samples: the part of them that does, and what it leaves over.

An anomaly is what a model of normal data cannot rebuild. `with_residuals` makes of a fitted
estimator one whose ``transform`` returns samples minus their reconstructions, so that a
`Representation` of it has all that others have: a torch path where there is one, raw columns
behind preprocessing, views, batches.
"""

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNet
from torch import nn

from ..layers import parts_of
from ..utils import n_shape
from ._columns import NoTorchForm
from ._convert import convert
from ._heads import is_head, to_dense
from ._inverses import convert_inverse
from ._modules import BlackBox, Chain, Stage, column_map
from ._offers import name_of
from ._resolve import Asked, decompose, named_steps, unwrap
from ._text import vectoriser_of


def reconstructs(estimator):
    """Tell whether some part of a fitted estimator reconstructs samples.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        A network, which may turn out to return something else; a transformer with
        ``inverse_transform``; or a Pipeline that ends with one of these.

    Returns
    -------
    reconstructs : bool
    """
    return bool(_split(estimator)[1])


def with_residuals(estimator, *, whole=False):
    """Make an estimator whose ``transform`` returns what reconstructions miss.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        Stays as it is.
    whole : bool, default=False
        Whether samples are compared as they are given; False: where the part that loses something
        takes them, behind scalers and encoders.

    Returns
    -------
    residuals : estimator or None
        Shares the fitted steps. None if ``whole`` and not every step has a way back.

    Raises
    ------
    TypeError
        If nothing in it reconstructs.
    """
    before, part = _split(estimator)
    if not part:
        raise TypeError(_no_way_back(estimator))
    if whole:
        if not all(_goes_back(step) for _, step in before):
            return None
        before, part = [], before + part
    last = _residuals_of([step for _, step in part])
    return Pipeline([*before, ("residuals", last)]) if before else last


def reconstructed_inputs(representation, inputs, residuals):
    """Return reconstructions as they enter the torch path.

    Parameters
    ----------
    representation : Representation
        Of an estimator that `with_residuals` made.
    inputs : ndarray of shape (n, *shape)
        What its `inputs` returned.
    residuals : ndarray of shape (n, N)
        What it computes of them.

    Returns
    -------
    reconstructed : ndarray of shape (n, *shape) or None
        None where residuals are those of something else than inputs, which cannot be found again.
    """
    chain = representation._chain
    if isinstance(chain, Chain):
        before = Chain(list(chain.named_parts())[:-1])
    elif isinstance(chain, BlackBox) and not isinstance(representation.estimator, Residuals):
        return None
    else:
        before = Chain([])
    dtype = inputs.dtype if inputs.dtype.kind == "f" else np.dtype(np.float64)
    if not before.names:
        return (inputs - residuals.reshape(inputs.shape)).astype(dtype, copy=False)
    mapped = column_map(before, inputs.shape[1])
    if mapped is None:
        return None
    columns, slopes = mapped
    known = slopes != 0
    moved = inputs.astype(np.float64)
    moved[:, columns[known]] -= residuals[:, known] / slopes[known]
    return moved.astype(dtype, copy=False)


class Residuals(BaseEstimator):
    """What fitted transformers, one after another, miss of a sample when they go forth and back.

    Parameters
    ----------
    parts : list
        Fitted transformers with ``inverse_transform``, or a single skorch net whose predictions
        are reconstructions.
    """

    def __init__(self, parts):
        self.parts = parts

    def fit(self, X, y=None):
        """Do nothing: the steps are fitted."""
        return self

    def transform(self, X):
        """Return X minus its reconstruction."""
        Z = X
        if hasattr(self.parts[0], "inverse_transform"):
            for step in self.parts:
                Z = step.transform(Z)
            for step in reversed(self.parts):
                Z = step.inverse_transform(Z)
        else:
            Z = self.parts[0].predict(np.asarray(X))
        return to_dense(X) - to_dense(Z)

    @property
    def _known_as(self):
        """Name of the step that reconstructs, in messages."""
        return name_of(self.parts[-1])

    @property
    def n_features_in_(self):
        """Number of columns that the first step was fitted on."""
        return self.parts[0].n_features_in_

    @property
    def feature_names_in_(self):
        """Their names."""
        return self.parts[0].feature_names_in_

    def __sklearn_is_fitted__(self):
        """Say that it is fitted."""
        return True


class TorchResiduals(Residuals):
    """The same of steps that have a torch form."""

    def _torch_form(self):
        """Return the module that computes what `transform` gives, and the name of its method."""
        return _Residual(*_modules_of(self.parts)), "forward"


class _Residual(nn.Module):
    """Samples minus their reconstructions."""

    subtracts = True

    def __init__(self, forth, back):
        super().__init__()
        self.forth = forth
        self.back = back

    def forward(self, x):
        found = self.forth(x.clone())  # what the network writes into it is not the sample
        if self.back is not None:
            found = self.back(found)
        return x - _of_shape(x, found)


def _of_shape(x, found):
    """Return the first tensor of an output that has the shape of the input."""
    tensors = list(_tensors_of(found))
    for tensor in tensors:
        if tensor.shape == x.shape:
            return tensor
    shapes = " and ".join(n_shape(tensor.shape[1:]) for tensor in tensors) or "no tensor"
    raise TypeError(
        f"the network returns {shapes} for samples of shape {n_shape(x.shape[1:])}, so that is no "
        "reconstruction; pass the whole autoencoder, or set score_function to a function of what "
        "it returns."
    )


def _tensors_of(output):
    if hasattr(output, "shape"):
        yield output
    for part in (parts_of(output) or {}).values():
        yield from _tensors_of(part)


def _residuals_of(steps):
    return Residuals(steps) if _modules_of(steps) is None else TorchResiduals(steps)


def _modules_of(steps):
    """Modules of the way forth and of that back (None for a network); None without torch form."""
    if isinstance(steps[0], (nn.Module, NeuralNet)):
        asked = Asked(method="forward", link=False)
        try:
            return decompose(steps[0], getattr(steps[0], "n_features_in_", 0), asked).module, None
        except NoTorchForm:
            return None
    forth = [_form(step, "_torch_form") or convert(step, "transform") for step in steps]
    back = [_form(step, "_torch_inverse") or convert_inverse(step) for step in reversed(steps)]
    if None in forth or None in back:
        return None
    return nn.Sequential(*forth), nn.Sequential(*back)


def _form(step, name):
    return Stage(*getattr(step, name)()) if hasattr(step, name) else None


def _split(estimator):
    """Pairs of names and steps: before the part that reconstructs, and that part."""
    steps = list(_flat(estimator))
    start = len(steps)
    if steps and isinstance(steps[-1][1], (nn.Module, NeuralNet)):
        return steps[:-1], steps[-1:]
    while start and _goes_back(steps[start - 1][1]):
        start -= 1
    # What keeps columns apart is preprocessing, although there is a way back.
    while start < len(steps) and _keeps_columns(steps[start][1]):
        start += 1
    return steps[:start], steps[start:]


def _flat(estimator, prefix=""):
    estimator = unwrap(estimator)
    if not isinstance(estimator, Pipeline):
        yield prefix or "step", estimator
        return
    for name, step in named_steps(estimator):
        yield from _flat(step, f"{prefix}-{name}" if prefix else name)


def _goes_back(step):
    both = hasattr(step, "transform") and hasattr(step, "inverse_transform")
    return both and vectoriser_of(step) is None


def _keeps_columns(step):
    if is_head(step) or isinstance(step, (OneToOneFeatureMixin, FunctionTransformer)):
        return True
    module = None if hasattr(step, "_torch_form") else convert(step, "transform")
    return module is not None and column_map(module, step.n_features_in_) is not None


def _no_way_back(estimator):
    steps = list(_flat(estimator))
    if steps and _goes_back(steps[-1][1]):
        why = "changes columns one by one, so it rebuilds every sample as it is"
    else:
        why = "has no transform with inverse_transform"
    return (
        f"score_function='reconstruction' needs a model that reconstructs samples, but "
        f"{name_of(unwrap(estimator))} {why}; use an Autoencoder, PCA or another with "
        "inverse_transform, a detector with score_function='decision', or a function of the "
        "output."
    )
