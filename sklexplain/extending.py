"""Places for pieces of your own: torch forms, gradient rules, attribution methods.

What is registered holds for the process that registers it, and for everything made there
afterwards. So register in a module that is imported wherever explainers are made or loaded; workers
of joblib that are processes of their own have to import it, too. Each function returns an object
whose ``remove()`` takes the piece out again, and which a ``with`` block removes at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .explaining import Method, Setup
from .explaining import register_method as _register_method
from .gradients import register_gradient_rule as _register_gradient_rule
from .representation import register_converter as _register_converter
from .utils import Registration

__all__ = [
    "Method",
    "Registration",
    "Setup",
    "register_converter",
    "register_gradient_rule",
    "register_method",
]


def register_converter(
    kind: type, converter: Callable[[Any], nn.Module | None], method: str = "transform"
) -> Registration:
    """Register the torch form of an estimator of your own, so that gradients pass through it.

    Without one a step is a black box, and only methods that need outputs explain what comes after
    it. In every ``fit`` the form is run on three samples and compared with the estimator.

    Parameters
    ----------
    kind : type
        Class of the estimator. Subclasses are not meant: they may compute something else.
    converter : callable
        ``converter(estimator)`` gets a fitted estimator and returns an ``nn.Module``, or None if it
        has no torch form with these parameters. The module is called with samples of shape
        (n, n_columns) and returns the numbers that the method returns, with two dimensions. A copy
        of it is used, in float64.
    method : {"transform", "predict_proba", "decision_function", "score_samples", "predict"}, \
            default="transform"
        Which method of the estimator it stands for.

    Returns
    -------
    registration : Registration
        Its ``remove()`` takes the converter out again.

    Raises
    ------
    TypeError
        If ``kind`` is no class of estimators or lacks the method, or the converter is not callable.
    ValueError
        If the method is none of these, or the library or you have a converter for it already.

    See Also
    --------
    register_gradient_rule : Per-sample gradients of a layer of your own.

    Notes
    -----
    Columns that are to be kept apart in front of imputers and encoders need more than a torch form:
    a module that treats each column alone, by an affine function, may say so by an attribute
    ``is_affine = True`` and a method ``column_map(n_columns)``, which returns for every output the
    column that it is made of and the derivative along it, as two arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.base import BaseEstimator, TransformerMixin
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.extending import register_converter
    >>> class Logarithm(TransformerMixin, BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         self.smallest_ = np.min(X, axis=0)
    ...         return self
    ...
    ...     def transform(self, X):
    ...         return np.log1p(np.asarray(X) - self.smallest_)
    >>> class TorchLogarithm(torch.nn.Module):
    ...     def __init__(self, smallest):
    ...         super().__init__()
    ...         self.register_buffer("smallest", torch.as_tensor(smallest))
    ...
    ...     def forward(self, x):
    ...         return torch.log1p(x - self.smallest)
    >>> registration = register_converter(Logarithm, lambda step: TorchLogarithm(step.smallest_))
    >>> X = np.random.default_rng(0).exponential(size=(50, 3))
    >>> model = make_pipeline(Logarithm(), LogisticRegression()).fit(X, X[:, 0] > 1)
    >>> attributor = LabelFreeAttributor(model, method="integrated_gradients").fit(X)
    >>> attributor.transform(X[:2]).shape
    (2, 3)
    >>> registration.remove()
    """
    return _register_converter(kind, converter, method)


def register_gradient_rule(
    kind: type[nn.Module], rule: Callable[..., dict[str, torch.Tensor]]
) -> Registration:
    """Register per-sample gradients of a layer of your own, for influence functions and TracIn.

    Without one, gradients of its parameters are taken by ``torch.vmap`` or one sample at a time,
    which is right and slower. In every ``fit`` the rule is compared with the gradients of a few
    samples, one by one; where it differs, or raises, a `WrongGradientRuleWarning` says so and it is
    not used.

    Parameters
    ----------
    kind : type
        Class of the layer, a subclass of ``nn.Module`` with one tensor in and one out. It counts
        for subclasses without a rule of their own, too.
    rule : callable
        ``rule(layer, x, grad)`` gets the layer's input and the gradient of the loss with respect to
        its output, both with rows first, and returns a dict from names of the layer's own
        parameters to gradients row by row, of shape (n_rows, ``*parameter.shape``). A sample may
        have several rows, which are summed. Parameters of layers inside it need rules of theirs.

    Returns
    -------
    registration : Registration
        Its ``remove()`` takes the rule out again.

    Raises
    ------
    TypeError
        If ``kind`` is no class of layers, or the rule is not callable.
    ValueError
        If the library or you have a rule for this class already.

    See Also
    --------
    register_converter : Torch form of an estimator of your own.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklexplain import TracInImportance
    >>> from sklexplain.extending import register_gradient_rule
    >>> class Gains(nn.Module):
    ...     def __init__(self, n):
    ...         super().__init__()
    ...         self.gain = nn.Parameter(torch.linspace(1, 2, n))
    ...
    ...     def forward(self, x):
    ...         return x * self.gain
    >>> def gains_rule(layer, x, grad):
    ...     products = x * grad  # (n_rows, ..., n), where series have their time
    ...     return {"gain": products.reshape(len(x), -1, products.shape[-1]).sum(dim=1)}
    >>> registration = register_gradient_rule(Gains, gains_rule)
    >>> X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    >>> autoencoder = nn.Sequential(Gains(4), nn.Linear(4, 4))
    >>> examples = TracInImportance(autoencoder, parameters="all").fit(X)
    >>> examples.transform(X[:2]).shape
    (2, 20)
    >>> registration.remove()
    """
    return _register_gradient_rule(kind, rule)


def register_method(record: Method) -> Registration:
    """Register an attribution method of your own, for ``method=`` of all attributors.

    Parameters
    ----------
    record : Method
        The method and the facts about it that the library goes by: whether it needs gradients,
        whether its attributions sum to the change of the output, whether it draws at random. A
        complete method is held to its sum in every ``transform``, with a `ConvergenceWarning`.

    Returns
    -------
    registration : Registration
        Its ``remove()`` takes the method out again.

    Raises
    ------
    TypeError
        If it is no `Method`, or its ``build`` is not callable.
    ValueError
        If its facts contradict each other, or there is a method of that name.

    See Also
    --------
    sklexplain.LabelFreeAttributor : Has a ``method``.

    Notes
    -----
    ``record.build(params, setup, rng)`` is called with the method's parameters, facts about the
    data (a `Setup`) and a generator (None unless ``n_samples`` is among the parameters), and
    returns the function that makes maps. This one is called with

    - ``encode``, from tensors (b, ...) to representations (b, N);
    - samples (n, ...) and their baseline rows (n or 1, K, ...);
    - ``cotangents`` (n, k, N): of every sample, k numbers are attributed to its features, which are
      the inner products of its representation with these;
    - the most rows to encode at once; and keywords that only some of the library's methods need.

    It returns maps (n, k, ...) of the inputs' entries, which the library sums over features, or
    without gradients (n, k, ``setup.n_players``). If ``setup.basis`` is not None, maps of
    coefficients are asked for: raise an error in ``build`` if the method has none.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.extending import Method, register_method
    >>> def build(params, setup, rng):
    ...     def attribute(encode, x, references, cotangents, block_rows, **others):
    ...         maps = torch.zeros(len(x), cotangents.shape[1], *x.shape[1:], dtype=x.dtype)
    ...         for reference in references.unbind(1):  # one baseline row after the other
    ...             middle = ((x + reference) / 2).requires_grad_()
    ...             with torch.enable_grad():
    ...                 values = (encode(middle).unsqueeze(1) * cotangents).sum(dim=(0, 2)).unbind()
    ...             for k, value in enumerate(values):
    ...                 (slope,) = torch.autograd.grad(value, middle, retain_graph=True)
    ...                 maps[:, k] += slope * (x - reference) / references.shape[1]
    ...         return maps
    ...
    ...     return attribute
    >>> registration = register_method(
    ...     Method("midpoint", "the gradient halfway between the baseline and the sample", build)
    ... )
    >>> X, _ = load_iris(return_X_y=True)
    >>> pca = PCA(2).fit(X)
    >>> LabelFreeAttributor(pca, method="midpoint").fit(X).transform(X[:3]).shape
    (3, 4)
    >>> registration.remove()
    """
    return _register_method(record)
