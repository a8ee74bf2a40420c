"""How the model's outputs for samples and for reconstructions are compared."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from ..layers import unwrapped
from ..representation import BlackBox, Representation, kind_of, unwrap
from ..utils import is_missing
from ._losses import class_loss, find_link, labels_loss, log_probabilities, squared_error

LABELS = "labels"
TASKS = ("classification", "regression")
_CLASS_CRITERIA = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


@dataclass(frozen=True)
class OutputComparison:
    """How two outputs of the explained model are compared.

    Attributes
    ----------
    link : str or None
        The function that turns a classifier's scores into probabilities, or "labels", where each
        is the probability of a label of its own; None for regression.
    classes : ndarray or None
        The classifier's classes, if it has any.
    """

    link: str | None
    classes: np.ndarray | None = None

    def target_of_outputs(self, scores):
        """Probabilities or predictions from the model's own output, as a target."""
        return scores if self.link in (None, LABELS) else log_probabilities(scores, self.link).exp()

    def target_of_labels(self, y, n_outputs):
        """Turn labels into a target: numbers of classes (n,), or values (n, n_outputs).

        Parameters
        ----------
        y : array-like of shape (n,) or (n, n_outputs)
            Labels or values.
        n_outputs : int
            Number of outputs of the network.

        Returns
        -------
        target : ndarray

        Raises
        ------
        ValueError
            If a label is no class, there are no such outputs, or values are not finite.
        """
        y = np.asarray(y)
        if self.link in (None, LABELS):
            y = y.reshape(len(y), -1).astype(np.float64)
            if y.shape[1] != n_outputs:
                raise ValueError(f"y has {y.shape[1]} columns for {n_outputs} outputs.")
            if not np.isfinite(y).all():
                row = np.flatnonzero(~np.isfinite(y).all(axis=1))[0]
                raise ValueError(f"y contains NaN or infinity, first in row {row}.")
            if self.link == LABELS and not np.isin(y, (0, 1)).all():
                raise ValueError(
                    "y must hold 0 or 1 for each label: the model's outputs are probabilities of "
                    "labels that do not exclude each other."
                )
            return y
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise ValueError(f"y has shape {y.shape}, but each sample needs one label.")
        if y.dtype.kind == "O":
            absent = np.flatnonzero([is_missing(label) for label in y])
            if len(absent):
                raise ValueError(
                    f"y holds {y[absent[0]]} for sample {absent[0]}: every sample needs a label."
                )
        n_classes = max(2, n_outputs)
        classes = np.arange(n_classes) if self.classes is None else np.asarray(self.classes)
        index = np.clip(np.searchsorted(classes, y), 0, len(classes) - 1)
        unknown = classes[index] != y
        if unknown.any():
            raise ValueError(
                f"y holds {y[unknown].tolist()[0]!r}, which is none of the classes "
                f"{classes.tolist()} of the explained model."
            )
        return index.astype(np.int64)

    def loss(self, scores, target):
        """Loss of each sample: cross-entropy, or squared error of predictions: (b,)."""
        if self.link is None:
            return squared_error(scores, target.to(scores))
        if self.link == LABELS:
            return labels_loss(scores, target.to(scores))
        target = target if target.dim() == 1 else target.to(scores)
        return class_loss(log_probabilities(scores, self.link), target)

    def predictions(self, scores):
        """Numbers of the classes (n,), labels or values (n, n_outputs)."""
        if self.link == LABELS:
            return scores > 0.5
        return scores if self.link is None else log_probabilities(scores, self.link).argmax(dim=1)


def find_comparison(representation, rows, task):
    """Find out how to compare outputs for samples with those for reconstructions.

    Parameters
    ----------
    representation : Representation
        With ``link=False``.
    rows : ndarray of shape (n, ...)
        Some samples.
    task : {"classification", "regression"} or None
        None: what the estimator is; a module with several outputs is a classifier.

    Returns
    -------
    comparison : OutputComparison

    Raises
    ------
    ValueError
        If the output of a classifier is no set of probabilities of classes.
    """
    estimator = representation.estimator
    found = _task(representation) if task is None else task
    if found == "regression":
        return OutputComparison(None)
    probabilities = None
    if not isinstance(estimator, nn.Module) and hasattr(estimator, "predict_proba"):
        options = {"device": representation.device, "table": representation.table}
        options["response_method"] = "predict_proba"
        with suppress(AttributeError, NotImplementedError):  # it may lack what that method needs
            whole = Representation(estimator, rows.shape[1], inputs=rows, **options)
            probabilities = torch.from_numpy(whole.activations(rows, len(rows)))
    scores = torch.from_numpy(representation.activations(rows, len(rows)))
    link = find_link(scores, probabilities)
    if probabilities is None and link == "softmax" and _are_labels(representation, rows, scores):
        return OutputComparison(LABELS)
    if (
        probabilities is None
        and link == "binary_probability"
        and not _bounded(representation, rows)
    ):
        link = "sigmoid"  # a logit that happens to be between 0 and 1
    if link is None and task is None and representation.method == "decision_function":
        return OutputComparison(None)  # margins, which are no logits
    if link is None:
        raise ValueError(
            f"{type(estimator).__name__} gives no probabilities of classes that exclude each "
            "other, so reconstructions cannot be classified; use task='regression', which "
            "compares its outputs."
        )
    return OutputComparison(link, _classes(estimator))


def _are_labels(representation, rows, scores):
    """Tell whether several outputs are probabilities of labels that do not exclude each other.

    Those are between 0 and 1 whatever the sample, as behind a sigmoid; scores that happen to be are
    not, once a sample is far away.

    Returns
    -------
    are_labels : bool
    """
    inside, strictly = (scores >= 0) & (scores <= 1), (scores > 0) & (scores < 1)
    return bool(inside.all() and strictly.any()) and _bounded(representation, rows)


def _bounded(representation, rows):
    """Tell whether outputs are between 0 and 1 far away from the samples, too."""
    x = representation.tensor(rows)
    if not x.is_floating_point():
        return True
    with representation.session(), torch.no_grad():
        center = x.mean(dim=0, keepdim=True)
        # In many directions and far; overflow is not within 0 and 1.
        far = [representation(center + factor * (x - center)) for factor in (-1e3, 30.0, 1e3)]
    return all(bool(((y >= 0) & (y <= 1)).all()) for y in far)


def _classes(estimator):
    try:
        classes = getattr(estimator, "classes_", None)
    except AttributeError:  # a skorch net that was fitted without y
        return None
    return None if classes is None else np.asarray(classes)


def _task(representation):
    """Classification or regression: what the estimator is, and what of it is explained."""
    estimator, method = representation.estimator, representation.method
    last = unwrap(getattr(estimator, "steps", [(None, estimator)])[-1][1])
    if isinstance(last, nn.Module):
        return "classification" if representation.n_units > 1 else "regression"
    # An estimator with a transform is explained by that, whatever else it predicts.
    if method not in ("predict_proba", "predict_log_proba", "decision_function"):
        return "regression"
    kind = kind_of(last)
    if kind == "classifier":
        return "classification" if hasattr(estimator, "predict_proba") else "regression"
    if kind != "regressor" and isinstance(last, NeuralNet):
        criterion = getattr(last, "criterion_", None)
        criterion = unwrapped(criterion) if isinstance(criterion, nn.Module) else criterion
        return "classification" if isinstance(criterion, _CLASS_CRITERIA) else "regression"
    return "regression"


def check_gradients(representation, alpha):
    """Raise a TypeError if the loss needs gradients through a model that has none."""
    if representation.differentiable:
        return
    what = representation.no_torch_form
    if isinstance(representation.chain, BlackBox):
        what = representation.chain.reason
    raise TypeError(
        f"alpha={alpha} needs the gradient of the model, but {what} has no torch form; use alpha=1."
    )
