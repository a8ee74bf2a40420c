"""What the training of a skorch net minimised, sample by sample.

Training calls a net's ``get_loss`` on batches. The loss of a sample is that of a batch of one, if
the loss of a batch is the mean (or the sum) of those: this is tried, on outputs of the network, and
so is what the targets are. Where a criterion divides by weights of the samples, as a cross-entropy
with weights of classes does, its unreduced values are divided by their mean weight instead. The
mean over the training examples is then what the net's own ``get_loss`` makes of all of them.
"""

import warnings
from dataclasses import replace

import numpy as np
import torch
from sklearn.base import is_classifier
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from ..gradients import Labelled, samples_of
from ..representation import first_batch, own_data, own_methods
from ..utils import n_shape, seeded
from ._losses import mapped, no_loss, not_reconstructing, tensors_of
from ._net_loss import LossPlan, as_targets, rows_of

# Methods that decide what training minimises, besides `get_loss` and `infer`, which are called.
_TRAINING = ("train_step_single", "train_step", "run_single_epoch", "fit_loop")
_SAMPLERS = (SequentialSampler, RandomSampler, SubsetRandomSampler)
_N_ROWS = 7  # samples that a loss is tried on, more where there are more labels
_MOST_ROWS = 64
_N_TOGETHER = 32  # samples whose losses are compared with that of all of them
_SAME = 1e-4  # relative difference that rounding makes


class Planner:
    """Finds out what the training of a skorch net minimised.

    Parameters
    ----------
    network : Network
        The session's, of a skorch net.
    inputs : ndarray of shape (n, ...)
        Training examples.
    y : ndarray of shape (n, ...) or None
        What ``fit`` was given.
    seed : int
        For whatever is drawn on the way.
    """

    def __init__(self, network, inputs, y, seed):
        self._network, self._net, self._inputs, self._y = network, network.net, inputs, y
        self._seed, self._name = seed, type(network.net).__name__
        self._weight = None  # the mean one of all examples, where they were looked at
        self._no_mean = (
            f"the loss that {self._name} has for a batch is neither the mean nor the sum of those "
            "of its samples"
        )

    def plan(self):
        """Decide how the loss of a sample is computed.

        Returns
        -------
        plan : LossPlan

        Raises
        ------
        TypeError
            Asking for ``loss``, if what training minimised is not known, or is no mean of losses of
            single samples.
        """
        self._check_code()
        with seeded(self._seed, self._network.representation.device), torch.no_grad():
            chosen = self._telling_rows()
            self._x = self._network.tensor(self._inputs[chosen])
            self._output = self._network.infer(self._x)
            joined = self._check_output()
            loss = self._network.net_loss(LossPlan("samples", joined=False))
            plan = self._of_all(loss, self._targeted(loss, chosen))
            plan = replace(plan, joined=joined)
            self._check_data(plan)
            return plan

    # -- what is the user's own code ---------------------------------------------------------------

    def _check_code(self):
        own = own_methods(self._net, _TRAINING)
        if own:
            raise no_loss(
                f"{self._name}.{own[0]} is its own code, so what training minimised is not known"
            )
        criterion = getattr(self._net, "criterion_", None)
        if criterion is None:
            raise no_loss(f"{self._name} has no criterion any more (trim_for_prediction drops it)")
        if isinstance(criterion, nn.Module):
            weights = {id(weight) for weight in self._net.module_.parameters()}
            if any(id(weight) in weights for weight in criterion.parameters()):
                raise no_loss(f"the criterion of {self._name} holds weights of its network")

    def _check_data(self, plan):
        """Raise unless training saw the samples and targets as they were given."""
        net = self._net
        suspects = own_data(net, training=True)
        if not suspects:
            return
        X = np.concatenate([x.cpu().numpy() for x in self._network.batches(self._inputs)])
        y = self._targets(plan.cast) if plan.takes_y else X
        try:
            same = _trains_on(net, X, y)
        except Exception as error:  # whatever the user's code does
            raise no_loss(
                f"{self._name} has its own {suspects[0]}, which fails on these samples "
                f"({type(error).__name__}: {error}), so what training minimised is not known"
            ) from error
        if not same:
            raise no_loss(
                f"{self._name} was trained on what its own {suspects[0]} makes of the samples, not "
                "on the samples as they are and each as often"
            )

    # -- samples -----------------------------------------------------------------------------------

    def _telling_rows(self):
        """Positions of a few samples: of all labels, if there are not too many."""
        rows, y = two_different(self._inputs), self._y
        if y is not None and y.ndim == 1 and y.dtype.kind in "iubUS":
            rows += np.unique(y, return_index=True)[1][:_MOST_ROWS].tolist()
        rows = list(dict.fromkeys([*rows, *range(min(_N_ROWS, len(self._inputs)))]))
        while len(rows) < _N_ROWS:
            rows += rows
        return np.array(rows)

    def _check_output(self):
        """Raise unless samples can be told apart in the output; tell if there are several parts."""
        tensors, n = tensors_of(self._output), len(self._x)
        bad = [tuple(t.shape) for t in tensors if t.shape[:1] != (n,)]
        if bad or not tensors:
            what = f"of shape {bad[0]} for {n} samples" if bad else "without tensors"
            raise no_loss(
                f"{self._name} has an output {what}, of which the loss of single samples cannot be "
                "made"
            )
        floats = all(t.is_floating_point() for t in tensors)
        return not isinstance(self._output, torch.Tensor) and floats

    def _targets(self, cast):
        return as_targets(self._y, cast, self._network.numpy_dtype)

    # -- targets -----------------------------------------------------------------------------------

    def _targeted(self, loss, chosen):
        """Find out what the targets are, and return a plan with them."""
        found, errors = {}, {}
        for plan in self._candidates():
            kind = "y" if plan.takes_y else "x"
            if kind in found:
                continue
            try:
                target = self._x
                if plan.takes_y:
                    target = torch.as_tensor(self._targets(plan.cast)[chosen])
                    target = target.to(self._x.device)
                found[kind] = self._tried(loss, plan, target)
            except Exception as error:  # whatever a criterion makes of targets that are none
                errors.setdefault(kind, error)
        if not found:
            raise self._no_target(errors)
        plans = list(found.values())
        if len(plans) == 1 or np.isclose(plans[0][1], plans[1][1], rtol=_SAME):
            return plans[-1][0]  # where the targets make no difference, y is not needed
        raise no_loss(
            f"the loss of {self._name} takes y for its target, and X as well, so what training "
            "minimised is not known"
        )

    def _candidates(self):
        """Yield plans with targets that training may have had, the likeliest first."""
        y, labels = self._y, is_classifier(self._net)
        if y is None:
            yield from () if labels else (LossPlan("samples"),)
            return
        casts = {"i": (None, "float"), "u": (None, "float"), "b": (None, "float", "int")}
        casts = casts.get(y.dtype.kind, (None,))
        if y.dtype.kind == "f" and (y % 1 == 0).all():
            casts = (None, "int")
        yield from (LossPlan("samples", takes_y=True, cast=cast) for cast in casts)
        # Otherwise y may be labels for `score` only, beside a net that reconstructs.
        n_outputs = tensors_of(self._output)[0][0].numel()
        if not labels and y.shape != self._inputs.shape and y[0].size != n_outputs:
            yield LossPlan("samples")

    def _no_target(self, errors):
        fix = "call fit(X, y) with the y that the net was trained on, or "
        error = errors.get("x" if self._y is None else "y")
        if error is None:
            return no_loss(f"{self._name} was trained on labels, and fit was given none", fix)
        if isinstance(error, _Unfit):
            return no_loss(str(error), fix if error.of_target else "")
        if self._y is None:
            what = "compares no reconstruction with its input"
        else:
            what = f"does not take y of shape {self._y.shape} and dtype {self._y.dtype}"
        what = f"the loss of {self._name} {what} ({type(error).__name__}: {error})"
        return no_loss(what, fix)

    # -- one target --------------------------------------------------------------------------------

    def _tried(self, loss, plan, target):
        """Compute the loss of a batch, and find how those of samples make it up.

        Parameters
        ----------
        loss : NetLoss
            The net's.
        plan : LossPlan
            With the targets that are tried.
        target : torch.Tensor of shape (n, ...)
            They themselves, for the samples that are looked at.

        Returns
        -------
        plan : LossPlan
            Complete.
        whole : float
            The loss of the batch.

        Raises
        ------
        _Unfit
            If there is no loss of single samples.
        """
        if not plan.takes_y and loss.reduction is not None:
            self._check_reconstruction(loss, target)
        rows = self._unlike_any_axis(target)
        output, target, x = rows_of(self._output, rows), target[rows], self._x[rows]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            whole = self._differentiable(loss, output, target, x)
            again = loss.whole(output, target, x)
            alone = torch.stack(loss.alone(output, target, x))
        if any("target size" in str(w.message) for w in caught):
            shapes = [n_shape(tuple(t.shape[1:])) for t in (target, tensors_of(output)[0])]
            raise _Unfit(
                f"the loss of {self._name} spreads targets of shape {shapes[0]} over outputs of "
                f"shape {shapes[1]}",
                of_target=True,
            )
        if not _close(again, whole, whole.abs()):
            raise _Unfit(f"the loss of {self._name} draws random numbers")
        if loss.reduction is not None:
            divisor = self._divisor(loss, plan, output, target, x, alone)
            if divisor is not None:
                return replace(plan, source="criterion", divisor=divisor), float(whole)
        scale = alone.abs().max()
        if _close(whole, alone.mean(), scale) or _close(whole, alone.sum(), scale):
            if self._vectorises(loss, output, target, x, alone):
                plan = replace(plan, source="vectorised")
            return plan, float(whole)
        raise _Unfit(self._no_mean)

    def _check_reconstruction(self, loss, target):
        reason = not_reconstructing(self._output, target)
        if reason is None and isinstance(loss.net.criterion_, nn.CrossEntropyLoss):
            sums = target.sum(dim=1)
            if (target < 0).any() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
                reason = "CrossEntropyLoss compares the output with labels or probabilities, not X"
        if reason is not None:
            raise _Unfit(reason, of_target=True)

    def _unlike_any_axis(self, target):
        """Positions of samples, as many as no axis has entries: nothing is spread by chance."""
        sizes = {1}.union(*(t.shape[1:] for t in (*tensors_of(self._output), target, self._x)))
        n = next(n for n in range(len(self._x), len(self._x) + len(sizes) + 1) if n not in sizes)
        return torch.arange(n, device=self._x.device) % len(self._x)

    def _differentiable(self, loss, output, target, x):
        with torch.enable_grad():
            leaf = mapped(
                lambda t: t.detach().requires_grad_() if t.is_floating_point() else t, output
            )
            value = loss.whole(leaf, target, x)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                what = getattr(value, "shape", type(value).__name__)
                raise _Unfit(f"{self._name}.get_loss returns no number, but {what}")
            leaves = [t for t in tensors_of(leaf) if t.requires_grad]
            if not value.requires_grad:
                raise _Unfit(f"the loss of {self._name} is detached from the network's output")
            torch.autograd.grad(value, leaves, allow_unused=True)
        return value.detach()

    def _vectorises(self, loss, output, target, x, alone):
        try:
            found = loss.vectorised(output, target, x)
        except Exception:  # whatever code of one's own makes of vmap's tensors
            return False
        return _close((found - alone).abs().max(), torch.zeros_like(found[0]), alone.abs().max())

    def _divisor(self, loss, plan, output, target, x, alone):
        """Return what unreduced values are divided by; None if they do not make up the loss."""
        values = loss.unreduced(output, target, x)
        size = values.abs().max()
        if loss.reduction == "sum":
            return 1.0 if _close(loss.whole(output, target, x), values.sum(), size) else None
        ignored = torch.isnan(alone) & (values == 0)  # divided by no weight at all
        finite = torch.isfinite(alone)
        told = ignored | (finite & (alone.abs() > _SAME * alone[finite].abs().max()))
        weights = torch.where(ignored, 0.0, values / alone)[told]
        if len(weights) < 2 or not torch.isfinite(weights).all() or (weights < 0).any():
            return None
        whole = loss.whole(rows_of(output, told), target[told], x[told])
        if not _close(whole, values[told].sum() / weights.sum(), whole.abs()):
            return None
        criterion = loss.net.criterion_
        weighted = getattr(criterion, "weight", None) is not None or not _alike(weights)
        if plan.takes_y and getattr(criterion, "ignore_index", None) is not None:
            weighted = weighted or (self._targets(plan.cast) == criterion.ignore_index).any()
        if weighted:
            self._weight = self._mean_weight(loss, plan)
            return self._weight
        divisor = float(weights.double().mean())
        whole = round(divisor)
        return float(whole) if abs(divisor - whole) <= 10 * _SAME * whole else divisor

    def _mean_weight(self, loss, plan):
        """Return what the criterion divides by for one training example, on average over all."""
        total, n = 0.0, 0
        for output, target, x in self._run_all(plan):
            whole = float(loss.whole(output, target, x))
            if whole:
                total += float(loss.unreduced(output, target, x).double().sum()) / whole
                n += len(x)
        return total / n if n else 1.0

    def _run_all(self, plan):
        """Yield outputs, targets and inputs of all training examples, a few at a time."""
        examples = self._inputs
        if plan.takes_y:
            examples = Labelled(examples, self._targets(plan.cast))
        for batch in self._network.batches(examples):
            x = samples_of(batch)
            yield self._network.infer(x), batch.y if plan.takes_y else x, x

    # -- all examples ------------------------------------------------------------------------------

    def _of_all(self, loss, plan):
        # They may be unlike those tried: some may lack targets, and count less in a batch.
        criterion = plan.source == "criterion"
        if criterion and plan.divisor == self._weight:
            return plan
        if all(self._adds_up(loss, plan, *part) for part in self._parts(plan)):
            return plan
        if criterion and loss.reduction != "sum":
            return replace(plan, divisor=self._mean_weight(loss, plan))
        raise no_loss(self._no_mean)

    def _parts(self, plan):
        # So few samples that one that counts less than the others is seen among them.
        for output, target, x in self._run_all(plan):
            for i in range(0, len(x), _N_TOGETHER):
                rows = slice(i, i + _N_TOGETHER)
                yield rows_of(output, rows), target[rows], x[rows]

    def _adds_up(self, loss, plan, output, target, x):
        """Tell whether the loss of a batch is the mean of those of its samples, or the sum."""
        whole = loss.whole(output, target, x)
        if not torch.isfinite(whole).all():
            return True  # which is said where losses are taken
        if plan.source == "criterion":
            values = loss.unreduced(output, target, x) / plan.divisor
        elif plan.source == "vectorised":
            values = loss.vectorised(output, target, x)
        else:
            values = torch.stack(loss.alone(output, target, x))
        scale = values.abs().mean()
        is_mean = _close(whole, values.mean(), scale)
        is_sum = _close(whole, values.sum(), len(x) * scale)
        if plan.source == "criterion":
            return is_sum if loss.reduction == "sum" else is_mean
        return is_mean or is_sum


class _Unfit(Exception):
    """Says why the targets, or the loss, make no loss of single samples."""

    def __init__(self, reason, of_target=False):
        super().__init__(reason)
        self.of_target = of_target


def _alike(weights):
    return bool(weights.max() - weights.min() <= 10 * _SAME * weights.max())


def _close(a, b, scale):
    tolerance = max(_SAME, 30 * torch.finfo(a.dtype).eps)
    return bool((a - b).abs() <= tolerance * scale)  # False if either is NaN


def two_different(inputs):
    """Return the positions of the first sample and of the one farthest from it."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    flat = flat / max(1.0, np.abs(flat).max(initial=0.0))  # squares of huge numbers overflow
    return [0, int(np.square(flat - flat[0]).sum(axis=1).argmax())]


def telling_rows(inputs, n):
    """Return positions of samples: of two unlike ones, and of others spread evenly.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, ...)
        Samples.
    n : int
        How many, if there are as many.

    Returns
    -------
    rows : list of int
        At least two, the same one twice if it is the only one.
    """
    spread = np.linspace(0, len(inputs) - 1, min(n, len(inputs))).round().astype(int)
    first = two_different(inputs)
    rows = list(dict.fromkeys([*first, *spread.tolist()]))[:n]
    return rows if len(rows) > 1 else first


def _trains_on(net, X, y):
    """Tell whether a net's training sees samples and targets as they were given.

    Parameters
    ----------
    net : NeuralNet
        Not changed.
    X, y : ndarray of shape (n, ...)
        Samples and targets.

    Returns
    -------
    same : bool
    """
    *pair, loader = first_batch(net, X, y, training=True)
    if isinstance(loader, DataLoader):
        sampler, often = loader.sampler, getattr(loader.sampler, "replacement", False)
        if not isinstance(sampler, _SAMPLERS) or often:
            return False  # some samples may count more than others
        if type(loader.batch_sampler) is not BatchSampler:
            return False
    inputs, targets = (np.asarray(part) for part in pair)
    if inputs.shape[1:] != X.shape[1:] or targets.shape[1:] != y.shape[1:]:
        return False
    pairs = zip(inputs, targets, strict=True)
    return all(_has_pair(X, y, sample, target) for sample, target in pairs)


def _has_pair(X, y, sample, target):
    rows = np.flatnonzero(np.isclose(X, sample).reshape(len(X), -1).all(axis=1))
    return any(np.allclose(y[row], target) for row in rows)
