"""From a batch of a network's inputs to one loss a sample, and checks that it is the sample's."""

import copy
import inspect
from functools import partial

import torch
from torch import nn

from ..gradients import samples_of, targets_of
from ..layers import unwrapped
from ..representation import add_note
from ..training import corrupt
from ..utils import as_the_caller, call_given, lent

ALTERNATIVES = (
    "use DKNNImportance or SimplExImportance, which look at representations and need no loss"
)
# What torch's criteria make of a batch: "batchmean" divides by the number of samples only.
_REDUCTIONS = ("mean", "sum", "batchmean")
_SAME = 1e-3  # largest relative difference between a loss in a batch and alone


def no_loss(reason, fix=""):
    """Build the error for a network whose training loss is not known, or is no sample's.

    Parameters
    ----------
    reason : str
        Why.
    fix : str, default=""
        What else would help, with "or" at its end.

    Returns
    -------
    error : TypeError
    """
    return TypeError(
        f"{reason}; {fix}pass loss, a callable(output, x) or callable(output, x, y) that returns "
        f"one number a sample. A loss over pairs has none: {ALTERNATIVES}."
    )


def takes_targets(loss):
    """Tell whether a loss is called with the output, the input and y.

    Parameters
    ----------
    loss : callable
        A user's.

    Returns
    -------
    takes_y : bool
        Whether it has a third argument that must be given, or that is named y.
    """
    try:
        call = loss.forward if isinstance(loss, nn.Module) else loss
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # not written in Python
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    third = [p for p in parameters if p.kind in kinds][2:3]
    return any(p.default is p.empty or p.name == "y" for p in third)


class Losses:
    """From a batch of a network's inputs to one loss a sample.

    Parameters
    ----------
    module : nn.Module
        The network.
    run : callable
        From a batch to what the network returns.
    loss : GivenLoss or ReconstructionLoss or NetLoss
        From its output, the clean input and the targets (None if there are none) to one number a
        sample.
    make_draws : callable
        From a batch to functions that corrupt a batch, each in its own way.
    """

    def __init__(self, module, run, loss, make_draws):
        self.module, self.run = module, run
        self._loss, self._make_draws = loss, make_draws
        self._draws = None

    def __call__(self, batch):
        inputs = self.inputs(batch)
        return sum(self.compare(self.output(part), batch) for part in inputs) / len(inputs)

    def evaluate(self, batch):
        """Compute losses, and keep what they are computed from.

        Parameters
        ----------
        batch : torch.Tensor of shape (n, ...) or Labelled
            Samples.

        Returns
        -------
        inputs : list of torch.Tensor
            Of the network, see `inputs`.
        outputs : list of object
            Of the network, for each of its inputs.
        losses : torch.Tensor of shape (n,)
        """
        inputs = self.inputs(batch)
        outputs = [self.output(part) for part in inputs]
        return inputs, outputs, self.mean(outputs, batch)

    def mean(self, outputs, batch):
        """Return one loss a sample, the mean over several outputs of the network."""
        return sum(self.compare(output, batch) for output in outputs) / len(outputs)

    def output(self, part):
        """Return the network's output for a batch, as the loss compares it."""
        try:
            output = self.run(part)
        except Exception as error:
            add_note(error, tuple(part.shape))
            raise
        return self._loss.prepared(output)

    def inputs(self, batch):
        """Return the network's inputs: the batch, corrupted in every way."""
        x = samples_of(batch)
        if self._draws is None:
            self._draws = self._make_draws(x)
        return [draw(x) for draw in self._draws]

    def compare(self, output, batch):
        """Return one loss a sample, of the network's output."""
        x = samples_of(batch)
        try:
            with as_the_caller():
                values = self._loss(output, x, targets_of(batch))
        except Exception as error:
            if isinstance(self._loss, GivenLoss):
                add_note(error, tuple(x.shape), "the loss")
            raise
        return _checked(values, x)


def _checked(values, x):
    if isinstance(values, torch.Tensor) and values.shape == (len(x),):
        return values
    what = f"shape {tuple(values.shape)}" if hasattr(values, "shape") else type(values).__name__
    raise TypeError(
        f"the loss returned {what} for {len(x)} samples, but must return one number each; do not "
        f"average over samples (reduction='none'). A loss over pairs has none: {ALTERNATIVES}."
    )


def draws_of(net, x, n_draws, seed):
    """Make the functions that corrupt inputs as a net's pretext task does.

    Parameters
    ----------
    net : NeuralNet or None
        The net; only those of an autoencoder have such a task.
    x : torch.Tensor of shape (n, ...)
        Samples.
    n_draws : int
        Number of draws of a random task.
    seed : int
        Of the draws, which are the same for all samples.

    Returns
    -------
    draws : list of callable
    """
    pretext = getattr(net, "pretext", "reconstruction")
    if pretext == "reconstruction":
        return [torch.clone]
    generator = torch.Generator().manual_seed(seed)
    base = torch.zeros_like if pretext == "denoising" else torch.ones_like
    changes = [
        corrupt(base(x[:1], device="cpu"), pretext, net.noise_std, net.mask_rate, generator)
        for _ in range(n_draws)
    ]
    operation = torch.add if pretext == "denoising" else torch.mul
    return [partial(operation, other=change.to(x.device)) for change in changes]


class GivenLoss:
    """A loss of the user's own.

    Parameters
    ----------
    loss : callable
        Of the output, the input and, if ``takes_y``, the targets.
    takes_y : bool
        See `takes_targets`.
    """

    def __init__(self, loss, takes_y):
        self._loss, self._takes_y = loss, takes_y

    def prepared(self, output):
        """Return the network's output as it is."""
        return output

    def __call__(self, output, x, y):
        given = (x, y) if self._takes_y else (x,)
        return call_given("loss", self._loss, output, *map(lent, given))


class ReconstructionLoss:
    """A criterion between the (first) output and the input, for each sample.

    Parameters
    ----------
    criterion : callable
        An autoencoder's, or the mean squared error.
    """

    def __init__(self, criterion):
        # A compiled one would hand the change of its reduction on to the user's.
        criterion = unwrapped(criterion) if isinstance(criterion, nn.Module) else criterion
        self._reduction = getattr(criterion, "reduction", None)
        if self._reduction in _REDUCTIONS:
            criterion = copy.copy(criterion)
            criterion.reduction = "none"
        self._criterion = criterion

    def prepared(self, output):
        """Return the first output."""
        return output[0] if isinstance(output, (tuple, list)) else output

    def __call__(self, output, x, _y):
        reason = not_reconstructing(output, x)
        if reason:
            raise no_loss(reason)
        if self._reduction not in _REDUCTIONS:
            pairs = zip(output, x, strict=True)
            return torch.stack([self._criterion(o[None], t[None]).reshape(()) for o, t in pairs])
        values = self._criterion(output, x).reshape(len(x), -1)
        return values.mean(dim=1) if self._reduction == "mean" else values.sum(dim=1)


def not_reconstructing(output, x):
    """Say why a network's output is no reconstruction of its input.

    Parameters
    ----------
    output : object
        What the network returned.
    x : torch.Tensor of shape (n, ...)
        Its input.

    Returns
    -------
    reason : str or None
        None if it has the input's shape.
    """
    if isinstance(output, torch.Tensor) and output.shape == x.shape:
        return None
    shape = tuple(getattr(output, "shape", ())) or type(output).__name__
    return (
        f"the network makes {shape} of {tuple(x.shape)}, no reconstruction that could be compared "
        "with its input"
    )


def check_losses(losses, batch, outputs, together, *, rows, separate):
    """Raise unless the loss of every sample is its own.

    Parameters
    ----------
    losses : Losses
        From a batch to one loss a sample.
    batch : torch.Tensor of shape (2, ...) or Labelled
        Two samples.
    outputs, together : list of object, torch.Tensor of shape (2,)
        The network's outputs for both, and their losses; see `Losses.evaluate`.
    rows : sequence of int
        Their positions among the training samples, for messages.
    separate : bool
        Whether the network's output for each sample is known to be its own. Where it is a tensor,
        only the loss has to be looked at then, and the network is not run again.

    Raises
    ------
    TypeError
        If the loss in a batch is another one than alone, as with a loss over pairs.
    ValueError
        If it is not finite.
    """
    together = together.detach()
    bad = torch.nonzero(~torch.isfinite(together)).flatten().tolist()
    if bad:
        raise ValueError(
            f"the loss of training sample {rows[bad[0]]} is not finite; check it and the weights."
        )
    tensors = all(isinstance(output, torch.Tensor) for output in outputs)
    with torch.no_grad():
        if separate and tensors and _alike(together, _losses_of_rows(losses, batch, outputs)):
            return
        alone = torch.cat([losses(batch[i : i + 1]) for i in range(len(batch))])
    if not _alike(together, alone):
        raise TypeError(
            "the loss of a sample depends on the other samples in its batch, as a loss over pairs "
            f"(contrastive) does, so it is not the sample's: {ALTERNATIVES}."
        )


def _losses_of_rows(losses, batch, outputs):
    """Losses of single rows of a batch; None if outputs cannot be taken apart like that."""
    rows = [slice(i, i + 1) for i in range(len(batch))]
    try:
        parts = [
            losses.mean([output[row].detach() for output in outputs], batch[row]) for row in rows
        ]
    except Exception:  # samples are not at the first axis; running the network will tell
        return None
    return torch.cat(parts)


def _alike(together, alone):
    if alone is None:
        return False
    error = (together - alone).abs().max()
    return bool(error <= _SAME * alone.abs().max())  # False if a sample alone gives NaN


def acts_on_weights(losses, outputs, batch, weights):
    """Tell whether losses depend on weights otherwise than through the network's output.

    Parameters
    ----------
    losses : Losses
        Of the network.
    outputs : list of object
        Of the network for the batch, see `Losses.evaluate`.
    batch : torch.Tensor of shape (n, ...) or Labelled
        Samples.
    weights : iterable of torch.Tensor
        They require gradients.

    Returns
    -------
    acts : bool
    """
    with torch.enable_grad():
        value = sum(losses.compare(detached(output), batch).sum() for output in outputs)
    weights, seen = {id(weight) for weight in weights}, set()
    todo = [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        if id(getattr(node, "variable", None)) in weights:
            return True
        seen.add(node)
        todo.extend(following for following, _ in node.next_functions)
    return False


def is_flat(losses, outputs, batch):
    """Tell whether losses have no slope in the network's output, as what is rounded has none.

    Parameters
    ----------
    losses : Losses
        Of the network.
    outputs : list of object
        Of the network for the batch, see `Losses.evaluate`.
    batch : torch.Tensor of shape (n, ...) or Labelled
        Samples.

    Returns
    -------
    is_flat : bool
        False also of losses that depend on weights only, and where every loss is 0 but would not
        be of other outputs: a network may be perfect.
    """
    here = _is_flat(losses, detached(outputs[0]), batch)
    if not here or losses.compare(detached(outputs[0]), batch).any():
        return here
    return _is_flat(losses, mapped(_moved, detached(outputs[0])), batch)


def _moved(tensor):
    """Return other numbers of about the same size, no two alike."""
    if not tensor.is_floating_point():
        return tensor
    steps = torch.linspace(0.05, 0.1, tensor.numel()).to(tensor).view(tensor.shape)
    return tensor + steps * (1 + tensor.abs())


def _is_flat(losses, output, batch):
    with torch.enable_grad():
        leaves = mapped(lambda t: t.requires_grad_() if t.is_floating_point() else t, output)
        values = losses.compare(leaves, batch)
        tensors = [t for t in tensors_of(leaves) if t.requires_grad]
        if not values.requires_grad or not tensors:
            return False
        weights = torch.linspace(1, 2, len(values)).to(values)  # so that samples do not cancel
        grads = torch.autograd.grad(values, tensors, weights, allow_unused=True)
    found = [g for g in grads if g is not None]  # none: of weights only
    return bool(found) and not any(g.any() for g in found)


def detached(output):
    """Return a network's output without what it was computed from."""
    return mapped(torch.Tensor.detach, output)


def mapped(function, output):
    """Apply a function to every tensor of a nested output.

    Parameters
    ----------
    function : callable
        From a tensor to anything.
    output : object
        A tensor, or tuples, lists and dicts that hold tensors.

    Returns
    -------
    output : object
        Nested alike; what is no tensor stays as it is.
    """
    if isinstance(output, torch.Tensor):
        return function(output)
    if isinstance(output, dict):
        parts = {key: mapped(function, part) for key, part in output.items()}
        return parts if type(output) is dict else type(output)(**parts)
    if isinstance(output, (tuple, list)):
        parts = [mapped(function, part) for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output


def tensors_of(output):
    """List the tensors of a nested output, in their order."""
    found = []
    mapped(found.append, output)
    return found
