"""The base class of estimators that train a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ..exceptions import ConvergenceWarning
from ..training import (
    VALIDATION_SPLIT,
    WIDTHS,
    diverging,
    evaluating,
    split_validation,
    still_improves,
)
from ..utils import (
    ARRAY,
    MAPPING,
    NONE,
    SEED,
    VERBOSE,
    ArrayOrFrame,
    Device,
    Integer,
    Is,
    Number,
    Text,
    as_array_like,
    cast_checked,
    check_param,
    check_params,
    draw_seed,
    in_plain_modes,
    seeded,
    validate_X,
    warn,
)
from ._modules import find_module_class


def _is_module(value):
    return isinstance(value, (str, type, torch.nn.Module))


class DecodingMixin:
    """What estimators with a decoder have in addition."""

    # What the estimator has.
    _n_features_out: int
    _apply: Callable[..., Any]

    def inverse_transform(self, Z: ArrayLike) -> np.ndarray:
        """Decode samples from codes.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X : ndarray of shape (n_samples, ...), float32
            Decoded samples.

        Raises
        ------
        ValueError
            If the codes have another length.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float32, input_name="Z", estimator=self)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has shape (n, {Z.shape[1]}), but the codes of this {type(self).__name__} have "
                f"n_components={self._n_features_out} entries."
            )
        return self._apply("decode", Z)

    def _torch_inverse(self):
        """Return the module that computes what `inverse_transform` gives, and its method."""
        return self.net_.module_, "decode"


class NetEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base class of estimators that build a net with an encoder, and train it.

    A subclass has the parameters that `make_net` reads. It implements `_make_net` and
    `_check_module`, and `_encode_target` if it looks at y.
    """

    _parameter_constraints = {
        "module": [Is("the name of a network, a class of torch modules", _is_module)],
        "n_components": [Integer(1, 100_000)],
        "hidden_layer_sizes": [ARRAY],
        "activation": [Text("the name of a function"), NONE],
        "lambda_noise": [Number(at_least=0)],
        "lambda_variance": [Number(at_least=0)],
        "score_every": [Integer()],
        "score_layer": [Text("the name of a layer"), NONE],
        "n_score_samples": [Integer(), NONE],
        "validation_split": VALIDATION_SPLIT,
        "patience": [Integer()],
        "lr": [Number(above=0)],
        "weight_decay": [Number(at_least=0)],
        "max_epochs": [Integer()],
        "batch_size": [Integer()],
        "net_params": [MAPPING, NONE],
        "device": [Device()],
        "random_state": [SEED],
        "verbose": [VERBOSE],
    }

    # Names of parameters, beside those that all have, that make training diverge when large.
    _larger: tuple[str, ...] = ()

    @in_plain_modes()
    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, *, groups: ArrayLike | None = None
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Training samples with one, two or three axes each, finite numbers.

        y : array-like of shape (n_samples,) or None, default=None
            Class labels; used only by a class head, if there is one, and by a splitter given as
            `validation_split`.

        groups : array-like of shape (n_samples,) or None, default=None
            Groups of samples that are held out whole, rows of one patient for example: by the share
            in `validation_split`, or by a splitter that looks at groups.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y cannot be used, a parameter does not fit to X or to another parameter, or
            training diverges.
        TypeError
            If `module` is no class of modules, or does not take a parameter in `net_params`.

        Warns
        -----
        ConvergenceWarning
            If the validation loss still improved when `max_epochs` was reached.
        """
        X, y = as_array_like(X), None if y is None else as_array_like(y, "y")
        X, target, seed = self._prepare(X, y)
        train, valid = split_validation(self.validation_split, X, y, groups, seed)
        self._check_split(train, valid)
        large = "weight_decay", *self._larger, "lambda_noise", "lambda_variance"
        with diverging(self.net_, self, *large), seeded(seed, self.device):
            self.net_.fit_split(X, target, train, valid, seed)
        history = self.net_.history
        self.loss_curve_ = [float(loss) for loss in history[:, "train_loss"]]
        self.validation_loss_curve_ = None
        if valid is not None:
            self.validation_loss_curve_ = [float(loss) for loss in history[:, "valid_loss"]]
        self.n_epochs_ = len(history)
        self._warn_unless_converged()
        return self

    def initialize(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Build the network for samples like X, with new weights and without training.

        `net_` is there afterwards, but the estimator is fitted only after `load_state_dict` (or
        `fit`, which starts from new weights).

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples of the shape, with the columns, that the network is for; one is enough.

        y : array-like of shape (n_samples,) or None, default=None
            Class labels; used only by a class head, if there is one, for the classes.

        Returns
        -------
        self : object
            The estimator, with `net_`.
        """
        self._prepare(X, None if y is None else as_array_like(y, "y"))
        return self

    @in_plain_modes()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Self:
        """Load the weights of a network of the same build; the estimator is fitted afterwards.

        Parameters
        ----------
        state_dict : dict
            The result of ``net_.module_.state_dict()``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        AttributeError
            If there is no network yet: call `initialize` before.
        ValueError
            If names or shapes of the weights differ from the network's.

        Examples
        --------
        >>> import numpy as np
        >>> from sklexplain.nets import Autoencoder
        >>> X = np.random.RandomState(0).standard_normal((50, 4))
        >>> fitted = Autoencoder(n_components=2, validation_split=None, max_epochs=2).fit(X)
        >>> weights = fitted.net_.module_.state_dict()
        >>> loaded = Autoencoder(n_components=2).initialize(X).load_state_dict(weights)
        >>> bool((loaded.transform(X) == fitted.transform(X)).all())
        True
        """
        if not hasattr(self, "net_"):
            raise AttributeError(
                f"This {type(self).__name__} has no network yet: call initialize(X), with samples "
                "of the shape it is for, before load_state_dict."
            )
        try:
            self.net_.module_.load_state_dict(state_dict)
        except RuntimeError as error:
            raise ValueError(
                f"The weights are not those of this {type(self).__name__} (parameters that shape "
                f"the network, and the shape of X, must be the same): {error}"
            ) from error
        self.net_.module_.eval()
        self.n_epochs_, self.loss_curve_, self.validation_loss_curve_ = 0, [], None
        return self

    def transform(self, X: ArrayLike) -> ArrayOrFrame:
        """Return the codes.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components), float32
            The codes.
        """
        return self._apply("encode", self._validate(X))

    def _torch_form(self):
        """Return the module that computes what `transform` gives, and the name of its method."""
        return self.net_.module_, "encode"

    def _validate_params(self):
        """Validate parameters; return them, numpy's numbers as Python's."""
        params = self.get_params(deep=False) | check_params(self)
        if isinstance(self.module, str):  # what a class of the user's own takes is not known
            name = "hidden_layer_sizes"
            params[name] = check_param(type(self).__name__, name, params[name], WIDTHS)
        return params

    @in_plain_modes()
    def _prepare(self, X, y):
        """Validate everything and build the net; return X, the class indices and the seed."""
        params = SimpleNamespace(**self._validate_params())
        module_class = find_module_class(self.module)
        X = validate_X(self, X, reset=True)
        X = cast_checked(X, np.float32, getattr(self, "feature_names_in_", None))
        # Of a DataFrame's values, which are read-only, torch warns; negative strides it refuses.
        X = np.require(X, requirements=["C", "W"])
        target = self._encode_target(X, y)
        seed = draw_seed(params.random_state)
        self._n_features_out = params.n_components  # of the net, whatever is set later
        for name in ("n_epochs_", "loss_curve_", "validation_loss_curve_"):
            vars(self).pop(name, None)  # untrained from here on, also if something goes wrong
        with seeded(seed, params.device):
            self.net_ = self._make_net(params, module_class, X, seed)
            if not self.net_.initialized_:
                self.net_.initialize()
            self.net_.module_.eval()
            probe = torch.from_numpy(X[:2]).to(params.device)
            self._check_module(self.net_.module_, probe, params)
        return X, target, seed

    def _make_net(self, params, module_class, X, seed):
        """Return the net, not initialised."""
        raise NotImplementedError

    def _check_module(self, module, x, params):
        """Raise unless the module makes of a few inputs what it should."""
        raise NotImplementedError

    def _check_split(self, train, valid):
        """Raise if the net cannot be trained on one part, or watched on the other."""

    def _encode_target(self, X, y):
        """Return what the net is given as the target."""

    def _warn_unless_converged(self):
        if still_improves(self.net_):
            warn(
                f"The validation loss still improved when max_epochs={self.max_epochs} was "
                "reached: raise max_epochs or lr.",
                ConvergenceWarning,
            )

    def _validate(self, X):
        """Return X as the network takes it."""
        check_is_fitted(self)
        X = validate_X(self, X, reset=False)
        if X.dtype == np.float32:
            return X
        with warnings.catch_warnings():
            # fit has warned of values that float32 cannot tell apart; X may be a single sample.
            warnings.simplefilter("ignore")
            return cast_checked(X, np.float32, getattr(self, "feature_names_in_", None))

    @in_plain_modes()
    def _apply(self, method, inputs, *args):
        """Call a method of the module on batches, in eval mode."""
        module = self.net_.module_
        outputs, size = [], self._batch_size()
        with evaluating(module), torch.no_grad():
            for start in range(0, len(inputs), size):
                batch = inputs[start : start + size]
                batch = np.require(batch, requirements=["C", "W"])
                batch = torch.from_numpy(batch).to(self.net_.device)
                outputs.append(getattr(module, method)(batch, *args).cpu().numpy())
        return self._checked(np.concatenate(outputs))

    def _checked(self, outputs):
        """Return the network's outputs; raise a ValueError if they are not finite."""
        bad = np.flatnonzero(~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1))
        if len(bad):
            raise ValueError(
                f"what the network makes of sample {bad[0]} is not finite; scale X "
                f"(StandardScaler), or train again with less than lr={self.lr}."
            )
        return outputs

    def _batch_size(self):
        return check_params(self, ["batch_size"])["batch_size"]

    def __sklearn_is_fitted__(self):
        """Say whether the weights have been trained or loaded."""
        return hasattr(self, "n_epochs_")

    def __sklearn_tags__(self):
        """Say that X may have more axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
