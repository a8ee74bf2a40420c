"""What example importance by gradients shares: the loss, the targets, how gradients are taken."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from ..gradients import Labelled, Trial
from ..training import SAMPLE_LOSSES
from ..utils import (
    CALLABLE,
    NONE,
    ArrayOrFrame,
    Choice,
    Entries,
    Integer,
    Is,
    Text,
    as_array_like,
    by_blocks,
    check_positive_int,
    dask_kind,
    n_shape,
    row_bytes,
)
from ._base import BaseExampleImportance
from ._gradient_pass import GradientPass
from ._losses import ALTERNATIVES, acts_on_weights, check_losses, is_flat
from ._net_loss import as_targets
from ._network import Network, choose_parameters
from ._objective import telling_rows

_ROWS = 1024  # samples whose targets are looked for at once
_N_TRIED = 6  # training examples whose gradients are compared with a loop


def _no_gradient_text(names):
    """Words of the error about a loss that no parameter acts on, as far as gradients show."""
    listed = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
    return (
        f"the loss has no gradient in the parameters {listed}, so all importance would be 0: it "
        "does not depend on them, or only through detach() or a lookup. Name other parameters, or "
        f"{ALTERNATIVES}."
    )


class BaseGradientImportance(BaseExampleImportance):
    """Base class of example importance by gradients.

    A subclass has the parameters ``loss``, ``parameters`` and ``n_draws``. Its ``_fit_corpus``
    decides by `_plan_losses` what the loss is and by `_try_gradients` how gradients are taken, and
    whatever runs later asks `_gradients` for them, inside of the explainer's session. Its
    ``_blocks`` begins with `_with_targets`.
    """

    _parameter_constraints = {
        "loss": [
            Choice(*SAMPLE_LOSSES),
            Is(
                "a callable(output, x) or callable(output, x, y) that returns one number a sample",
                CALLABLE.is_satisfied_by,
            ),
            NONE,
        ],
        "parameters": [
            Text("'encoder', 'all', the name of a part of the network"),
            Entries("a list of names of parameters and submodules", Text()),
        ],
        "n_draws": [Integer(1, 1_000_000)],
    }

    _reads_rows = True
    _projection = None
    _needs_all = "compares gradients of all training examples"
    # Solvers go over all batches again and again.
    _whole_again = True

    def _explained(self):
        # The loss looks at all outputs, as they are before probabilities are made of them.
        return {"layer": None, "several": True, "link": False, "second": True}

    def _check_params(self):
        super()._check_params()

    # -- losses --------------------------------------------------------------------------------

    def _network(self):
        """Return the session's network."""
        return Network(self.estimator_, self._representation)

    def _plan_losses(self, network):
        """Decide what the loss of a sample is, and return it."""
        loss, y = self._params_at_fit.loss, self._y
        self._loss_plan = plan = network.plan_loss(loss, self._corpus, y, self.seed_)
        self._targets = None
        if plan.takes_y:
            self._targets = as_targets(y, plan.cast, network.numpy_dtype)
        return self._losses(network)

    def _losses(self, network):
        params = self._params_at_fit
        plan = self._loss_plan
        return network.losses(plan, params.loss, params.n_draws, self.seed_, self._corpus)

    # -- targets -------------------------------------------------------------------------------

    @property
    def _examples(self):
        """The training examples, with their targets if the loss takes any."""
        return self._corpus if self._targets is None else Labelled(self._corpus, self._targets)

    def _with_targets(self, inputs, y=None, exclude_self=False):
        """Return samples with their targets, if the loss takes any.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...) or Labelled
            Samples; those that have targets keep them.
        y : array-like of shape (n, ...) or None, default=None
            Targets that the user gave.
        exclude_self : bool, default=False
            Whether they are the training examples.

        Returns
        -------
        inputs : ndarray of shape (n, ...) or Labelled

        Raises
        ------
        ValueError
            If y has another shape than in fit, holds numbers that the loss does not take, or is
            missing and cannot be predicted.
        """
        if self._targets is None or isinstance(inputs, Labelled):
            return inputs
        if y is not None:
            return Labelled(inputs, self._checked_targets(inputs, y))
        if exclude_self:
            return self._examples
        known = self._known_targets()
        starts = range(0, len(inputs), _ROWS)
        rows = (row for i in starts for row in inputs[i : i + _ROWS])
        targets = [known.get(row_bytes(row)) for row in rows]
        unknown = np.flatnonzero([target is None for target in targets])
        out = np.zeros((len(inputs), *self._targets.shape[1:]), self._targets.dtype)
        for i, target in enumerate(targets):
            out[i] = 0 if target is None else target
        if len(unknown):
            out[unknown] = self._predicted_targets(inputs, unknown)
        return Labelled(inputs, out)

    def _checked_targets(self, inputs, y):
        y = np.asarray(as_array_like(y))
        check_consistent_length(inputs, y)
        ours = self._targets
        if y.shape[1:] != ours.shape[1:]:
            raise ValueError(
                f"y has shape {n_shape(y.shape[1:])}, but {type(self).__name__} was fitted with y "
                f"of shape {n_shape(ours.shape[1:])}."
            )
        if ours.dtype.kind == "f":
            return as_targets(y, self._loss_plan.cast, ours.dtype).astype(ours.dtype)
        cast = None if self._loss_plan.cast == "int" else self._loss_plan.cast
        y = as_targets(y, cast, self._network().numpy_dtype)
        with np.errstate(invalid="ignore"):  # NaN is not what it becomes
            alike = y.astype(ours.dtype)
        other = (alike != y).reshape(len(y), -1).any(axis=1)
        if not other.any():
            return alike
        # Numbers that fit's dtype cannot hold: the targets are values, or they are wrong.
        self._try_target(inputs, y, int(other.argmax()))
        return y

    def _try_target(self, inputs, y, row):
        """Raise unless the loss takes a target that targets of fit's dtype cannot be."""
        error = None
        if self._loss_plan.cast != "int":
            network = self._network()
            try:
                with torch.no_grad():
                    rows = slice(row, row + 1)
                    self._losses(network)(network.tensor(Labelled(inputs[rows], y[rows])))
                return
            except Exception as reason:  # whatever a loss makes of what is no class
                error = reason
        values = y[row].ravel()
        with np.errstate(invalid="ignore"):
            value = values[values.astype(self._targets.dtype) != values][0]
        kind = self._targets.dtype
        why = "" if error is None else f" ({type(error).__name__}: {error})"
        raise ValueError(
            f"y of sample {row} is {value}, but {type(self).__name__} was fitted with y of dtype "
            f"{kind}, and the loss takes no other numbers{why}; pass y of that dtype, such as the "
            "classes that the network was trained on."
        ) from error

    def _known_targets(self):
        """Targets of the training examples by their bytes; None where equal ones disagree."""
        known = {}
        for row, target in zip(np.ascontiguousarray(self._corpus), self._targets, strict=True):
            key = row_bytes(row)
            found = known.setdefault(key, target)
            if found is not None and not np.array_equal(found, target):
                known[key] = None
        return known

    def _predicted_targets(self, inputs, positions):
        network = self._network()
        parts = (positions[i : i + _ROWS] for i in range(0, len(positions), _ROWS))
        found = [network.predicted(network.tensor(inputs[part]), self._targets) for part in parts]
        if any(y is None for y in found):
            raise ValueError(
                "the loss takes y, and what it is for new samples cannot be told from the "
                f"network's output, as classes can; pass it: {type(self).__name__}.transform(X, y)."
            )
        return np.concatenate(found)

    def transform(self, X: ArrayLike, y: ArrayLike | None = None) -> ArrayOrFrame:
        """Return the importance of every training example for every sample.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, of the shape given to ``fit``.
        y : array-like of shape (n_query, ...), default=None
            Targets of the samples; ignored unless the loss takes any. None: training examples have
            those of ``fit``, and for other samples the class that the network predicts stands in.

        Returns
        -------
        importance : ndarray of shape (n_query, n_train)
            Larger is more important. A ValueError says if the matrix would be larger than
            ``max_bytes``.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape or holds NaN or infinity, if the network's output
            is not finite, or if y is needed.
        """
        with self._door(X, by_rows=self._reads_rows) as inputs:
            return self._matrix(self._with_targets(inputs, y))

    def top_examples(
        self, X: ArrayLike, k: int, *, y: ArrayLike | None = None, exclude_self: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the most important training examples of every sample.

        Needs no matrix of all samples and examples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.
        k : int
            How many examples.
        y : array-like of shape (n_query, ...), default=None
            See ``transform``.
        exclude_self : bool, default=False
            X is the training set of ``fit``, in its order, and every example is left out of its own
            corpus.

        Returns
        -------
        importance : ndarray of shape (n_query, k)
            Most important first; examples that tie stand in the order of the corpus.
        index : ndarray of shape (n_query, k)
            Which examples: labels of the DataFrame's index if ``fit`` was given a pandas one, else
            positions.

        Raises
        ------
        ValueError
            If there are fewer than k examples, if X is not as long as the corpus though
            ``exclude_self`` says that it is the corpus, or if y is needed.
        """
        check_is_fitted(self)
        check_positive_int("k", k)
        if dask_kind(X) is not None:
            _form_without_targets(self, y)
            return self._top_over_blocks(X, k, exclude_self)
        with self._door(X) as inputs:
            inputs = self._with_targets(inputs, y) if y is not None else inputs
            importance, positions = self._top(inputs, k, exclude_self)
        return importance, self.corpus_index_[positions]

    def _label_score(self, inputs, y):
        if self._targets is not None and self._targets.dtype.kind == "f" and self._is_continuous():
            return self._input_score(self._with_targets(inputs, y))
        return super()._label_score(inputs, y)

    def _is_continuous(self):
        return self._targets.ndim > 1 or bool((self._targets % 1 != 0).any())

    # -- gradients -----------------------------------------------------------------------------

    def _choose_parameters(self, network):
        """Find the parameters that gradients are taken in, and refuse a network without any."""
        if self._representation.probe.quantised:
            raise TypeError(
                f"{self._representation.no_torch_form} has no gradient in its weights: pass the "
                f"network as it was before it was quantised, or {ALTERNATIVES}."
            )
        self.parameters_ = choose_parameters(network.module, self._params_at_fit.parameters)

    def _try_gradients(self, network, losses, watched=None):
        """Choose parameters, and decide how gradients are taken in them.

        Parameters
        ----------
        network : Network
            The session's.
        losses : Losses
            Of the network.
        watched : nn.Module or None, default=None
            See `Trial`.

        Returns
        -------
        trial : Trial
            Of some training examples, with the result of `Losses.evaluate`.

        Raises
        ------
        TypeError
            If the loss is not the sample's, has no gradient in the parameters, or looks at weights
            of which no gradient is seen.
        """
        self._choose_parameters(network)
        probe = self._representation.probe
        rows = telling_rows(self._corpus, _N_TRIED)
        x = network.tensor(self._examples[rows])
        trial = Trial(losses.evaluate, network.module, self.parameters_, x, watched)
        _, outputs, values = trial.result
        if not values.requires_grad:
            raise TypeError(_no_gradient_text(self.parameters_))
        separate = not probe.random
        check_losses(losses, x, outputs, values, rows=rows, separate=separate)
        ours = {id(weight) for weight in network.module.parameters()}
        others = [w for w in network.users_module.parameters() if id(w) not in ours]
        if acts_on_weights(losses, outputs, x, others):
            raise TypeError(
                "the loss looks at weights of the network that was passed, but a view of it is "
                "run, so their part of the gradient would be missing; pass a loss without them, or "
                "have a skorch net's get_loss look at self.module_."
            )
        self._plan = trial.plan(values, losses)
        if is_flat(losses, outputs, x):
            raise TypeError(_no_gradient_text(self.parameters_))
        return trial

    def _gradients(self):
        """Return what takes gradients, while its network can be run."""
        network = self._network()
        losses = self._losses(network)
        return GradientPass(
            network, losses, self._plan, self._params_at_fit.batch_size, self._projection
        )


def _form_without_targets(explainer, y=None):
    if y is not None:
        raise TypeError(
            "y is not cut into the blocks of an X in dask; pass X.compute(), or leave y out."
        )
    return explainer._row_form()


# Around what scikit-learn has made of it for set_output.
_wrapped = by_blocks(_form_without_targets)(BaseGradientImportance.transform)
BaseGradientImportance.transform = _wrapped  # type: ignore[method-assign]  # only wrapped
