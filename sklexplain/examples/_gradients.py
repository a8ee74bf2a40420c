"""What example importance by gradients shares: the loss, the parameters, the passes."""

import copy
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from torch import nn

from ..gradients import Trial, join_terms, per_sample_gradients, project_terms, terms_bytes
from ..representation import Chain, Stage, add_note, named_steps, unwrap
from ..training import corrupt
from ..utils import check_positive_int, did_you_mean
from ._base import BaseExampleImportance

ALTERNATIVES = (
    "use DKNNImportance or SimplExImportance, which look at representations and need no loss"
)
_CACHE_BYTES = 2**28  # gradients of the corpus kept for the next samples
_BLOCK_BYTES = 2**27  # gradients of samples at once
_SAME = 1e-3  # largest relative difference between a loss in a batch and alone


class Network:
    """The network that was trained, what comes before it, and its loss for each sample.

    Made anew in every session, of the session's own modules.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        What is explained.
    representation : Representation
        Of the estimator, with ``layer=None``.

    Attributes
    ----------
    module : nn.Module
        The network, on the device where it runs.
    net : NeuralNet or None
        The skorch net it belongs to.

    Raises
    ------
    TypeError
        If the last step is no network.
    """

    def __init__(self, estimator, representation):
        self.representation = representation
        *self._before, last = _steps(representation.chain)
        if not isinstance(last, Stage):
            step = getattr(last, "reason", None)
            problem = "has no torch form" if step else "is no network"
            raise TypeError(
                f"{step or type(unwrap(estimator)).__name__} {problem}: gradients need a network "
                "as the last step, after steps that have a torch form. Transform X before and "
                f"pass the network alone, or {ALTERNATIVES}."
            )
        self._stage = last
        self.module = last.module
        owner = unwrap(estimator)
        while isinstance(owner, Pipeline):
            owner = unwrap(named_steps(owner)[-1][1])
        net = owner if isinstance(owner, NeuralNet) else getattr(owner, "net_", None)
        self.net = net if isinstance(net, NeuralNet) else None

    def tensor(self, inputs):
        """Run the explainer's inputs through the steps before the network."""
        x = self.representation.tensor(inputs)
        with torch.no_grad():
            for step in self._before:
                x = step(x)
        if self._stage.takes_integers or self._stage.dtype is None:
            return x
        return x.to(self._stage.dtype)

    def losses(self, loss, n_draws, seed):
        """Make the function from a batch to one loss a sample.

        Parameters
        ----------
        loss : callable or None
            From the network's output and its input to one number a sample.
        n_draws : int
            Number of draws of a random pretext task.
        seed : int
            Of the draws, which are the same for all samples.

        Returns
        -------
        losses : Losses
        """
        first = loss is None
        loss = _default_loss(self.net) if first else loss
        return Losses(self.module, loss, lambda x: _draws(self.net, x, n_draws, seed), first)


class Losses:
    """From a batch of a network's inputs to one loss a sample.

    Parameters
    ----------
    module : nn.Module
        The network.
    loss : callable
        From its output and the clean input to one number a sample.
    make_draws : callable
        From a batch to functions that corrupt a batch, each in its own way.
    first : bool, default=False
        Whether of several outputs the first is compared, instead of all handed to ``loss``.
    """

    def __init__(self, module, loss, make_draws, first=False):
        self.module, self._loss, self._make_draws = module, loss, make_draws
        self._draws, self._first = None, first

    def __call__(self, x):
        inputs = self.inputs(x)
        return sum(self.compare(self.output(part), x) for part in inputs) / len(inputs)

    def evaluate(self, x):
        """Compute losses, and keep what they are computed from.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            A batch.

        Returns
        -------
        inputs : list of torch.Tensor
            Of the network, see `inputs`.
        outputs : list of object
            Of the network, for each of its inputs.
        losses : torch.Tensor of shape (n,)
        """
        inputs = self.inputs(x)
        outputs = [self.output(part) for part in inputs]
        return inputs, outputs, self.mean(outputs, x)

    def mean(self, outputs, x):
        """Return one loss a sample, the mean over several outputs of the network."""
        return sum(self.compare(output, x) for output in outputs) / len(outputs)

    def output(self, part):
        """Return the network's output for a batch, as the loss compares it."""
        try:
            output = self.module(part)
        except Exception as error:
            add_note(error, tuple(part.shape))
            raise
        return output[0] if self._first and isinstance(output, (tuple, list)) else output

    def inputs(self, x):
        """Return the network's inputs: the batch, corrupted in every way."""
        if self._draws is None:
            self._draws = self._make_draws(x)
        return [draw(x) for draw in self._draws]

    def compare(self, output, x):
        """Return one loss a sample, of the network's output."""
        try:
            values = self._loss(output, x)
        except Exception as error:
            if not self._first:  # the user's own
                add_note(error, tuple(x.shape), "the loss")
            raise
        return _checked(values, x)


def _steps(chain):
    if not isinstance(chain, Chain):
        return [chain]
    return [step for part in chain.steps for step in _steps(part)]


def _draws(net, x, n_draws, seed):
    """Make the functions that corrupt inputs as the pretext task does."""
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


def _checked(values, x):
    if isinstance(values, torch.Tensor) and values.shape == (len(x),):
        return values
    what = f"shape {tuple(values.shape)}" if hasattr(values, "shape") else type(values).__name__
    raise TypeError(
        f"the loss returned {what} for {len(x)} samples, but must return one number each; do not "
        f"average over samples (reduction='none'). A loss over pairs has none: {ALTERNATIVES}."
    )


def _default_loss(net):
    """Return the criterion for each sample, or the squared error, of a reconstruction."""
    criterion = nn.MSELoss() if net is None else net.criterion_
    reduction = getattr(criterion, "reduction", None)
    if reduction is not None:
        criterion = copy.copy(criterion)
        criterion.reduction = "none"

    def loss(output, x):
        if not isinstance(output, torch.Tensor) or output.shape != x.shape:
            shape = tuple(getattr(output, "shape", ())) or type(output).__name__
            raise TypeError(
                f"the network makes {shape} of {tuple(x.shape)}, no reconstruction that could be "
                "compared with its input; pass loss, a callable(output, x) that returns one "
                f"number a sample. A loss over pairs or over labels has none: {ALTERNATIVES}."
            )
        try:
            if reduction is None:
                return torch.stack(
                    [criterion(o[None], t[None]) for o, t in zip(output, x, strict=True)]
                )
            values = criterion(output, x).flatten(1)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise TypeError(
                f"{type(criterion).__name__} compares no reconstruction with its input ({error}); "
                "pass loss, a callable(output, x) that returns one number a sample. A loss over "
                f"pairs or over labels has none: {ALTERNATIVES}."
            ) from error
        return values.sum(dim=1) if reduction == "sum" else values.mean(dim=1)

    return loss


def choose_parameters(module, parameters):
    """Find the parameters that gradients are taken in.

    Parameters
    ----------
    module : nn.Module
        The network.
    parameters : str or list of str
        "encoder", "all", or names of parameters and submodules.

    Returns
    -------
    names : list of str
        As in ``module.named_parameters()``, and in its order.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If a name is unknown, or there are no parameters.
    """
    named = dict(module.named_parameters())
    if isinstance(parameters, str):
        wanted = [""] if parameters == "all" else [parameters]
    else:
        wanted = parameters
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(w, str) for w in wanted):
        raise TypeError(
            f"parameters={parameters!r} must be 'encoder', 'all' or a list of names of parameters "
            "and submodules."
        )
    parts = dict(module.named_modules())
    chosen = set()
    for name in wanted:
        if name not in named and name not in parts:
            raise ValueError(_unknown_text(name, [*named, *parts], type(module).__name__))
        own = [named[name]] if name in named else parts[name].parameters()
        chosen.update(map(id, own))
    names = [name for name, parameter in named.items() if id(parameter) in chosen]
    if not names:
        raise ValueError(f"parameters={parameters!r} has no parameters to take gradients in.")
    return names


def _unknown_text(name, known, owner):
    hint = did_you_mean(name, known, n=3)
    children = ", ".join(repr(k) for k in known if k and "." not in k)
    return (
        f"parameters: {name!r} is neither a parameter nor a submodule of {owner}.{hint} Name some "
        f"in a list, as in named_parameters() ({children}, …), or pass parameters='all'."
    )


class GradientPass:
    """Per-sample gradients of one session's network, a batch at a time.

    Parameters
    ----------
    network : Network
        The session's.
    losses : Losses
        Of the network.
    plan : GradientPlan
        How gradients are taken.
    batch_size : int
        Most samples in the network at once.
    projection : (int, int) or None, default=None
        Number of dimensions that gradients are projected to, and the projection's seed.

    Attributes
    ----------
    module : nn.Module
        The session's.
    parameters : list of nn.Parameter
        The chosen ones.
    bytes_per_sample : int
        Bytes that the gradients of a sample take.
    """

    def __init__(self, network, losses, plan, batch_size, projection=None):
        self.network, self.losses, self.plan = network, losses, plan
        self.module = network.module
        self.parameters = list(plan.bound(network.module).parameters.values())
        self._batch_size = network.representation.block_rows(batch_size)
        self._projection, self._kept = projection, {}
        self.bytes_per_sample = plan.bytes_per_sample
        if projection is not None:
            self.bytes_per_sample = projection[0] * self.parameters[0].element_size()

    def _terms(self, x):
        terms = per_sample_gradients(self.losses, self.module, x, self.plan)
        return terms if self._projection is None else project_terms(terms, *self._projection)

    def batches(self, inputs, n_rows=None):
        """Yield the network's inputs, a few samples at a time."""
        step = self._batch_size if n_rows is None else min(n_rows, self._batch_size)
        for i in range(0, len(inputs), step):
            yield self.network.tensor(inputs[i : i + step])

    def terms(self, inputs):
        """Return the gradients of all inputs."""
        return join_terms([self._terms(x) for x in self.batches(inputs)])

    def blocks(self, inputs, key=None):
        """Yield slices and gradients of as many inputs as fit into memory.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        key : hashable or None, default=None
            Stands for the inputs and the weights that the network has now. Not None: the first
            gradients are kept, and used again when the key is the same.

        Yields
        ------
        rows : slice
        terms : dict of str to term
        """
        step = self.rows_at_once
        for start in range(0, len(inputs), step):
            rows = slice(start, min(start + step, len(inputs)))
            terms = self._kept.get((key, start))
            if terms is None:
                terms = self.terms(inputs[rows])
                n_bytes = sum(map(terms_bytes, self._kept.values())) + terms_bytes(terms)
                if key is not None and n_bytes <= _CACHE_BYTES:
                    self._kept[key, start] = terms
            yield rows, terms

    @property
    def rows_at_once(self):
        """Number of samples whose gradients fit into memory."""
        return max(1, _BLOCK_BYTES // self.bytes_per_sample)


def _two_different(inputs):
    """Return the first sample and the one farthest from it."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    far = np.square(flat - flat[0]).sum(axis=1).argmax()
    return inputs[[0, far]]


def check_losses(losses, x, outputs, together, *, separate):
    """Raise unless the loss of every sample is its own.

    Parameters
    ----------
    losses : Losses
        From a batch to one loss a sample.
    x : torch.Tensor of shape (2, ...)
        Two samples.
    outputs, together : list of object, torch.Tensor of shape (2,)
        The network's outputs for both, and their losses; see `Losses.evaluate`.
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
    if not torch.isfinite(together).all():
        raise ValueError("the loss of a training example is not finite; check it and the weights.")
    tensors = all(isinstance(output, torch.Tensor) for output in outputs)
    with torch.no_grad():
        if separate and tensors and _alike(together, _losses_of_rows(losses, x, outputs)):
            return
        alone = torch.cat([losses(x[i : i + 1]) for i in range(len(x))])
    if not _alike(together, alone):
        raise TypeError(
            "the loss of a sample depends on the other samples in its batch, as a loss over pairs "
            f"(contrastive) does, so it is not the sample's: {ALTERNATIVES}."
        )


def _losses_of_rows(losses, x, outputs):
    """Losses of single rows of a batch; None if outputs cannot be taken apart like that."""
    rows = [slice(i, i + 1) for i in range(len(x))]
    try:
        parts = [losses.mean([output[row].detach() for output in outputs], x[row]) for row in rows]
    except Exception:  # samples are not at the first axis; running the network will tell
        return None
    return torch.cat(parts)


def _alike(together, alone):
    if alone is None:
        return False
    error = (together - alone).abs().max()
    return bool(error <= _SAME * alone.abs().max())  # False if a sample alone gives NaN


@contextmanager
def loaded(module, weights):
    """Put other weights into a network, and put everything back after.

    Weights are loaded into storage of their own: that of a view's parameters is the user's.

    Parameters
    ----------
    module : nn.Module
        The network, or a view of it.
    weights : dict of str to torch.Tensor or None
        A state dict; None leaves the network as it is.

    Yields
    ------
    None
    """
    if weights is None:
        yield
        return
    parts = list(module.modules())
    registered = [(m._parameters, dict(m._parameters)) for m in parts]
    registered += [(m._buffers, dict(m._buffers)) for m in parts]
    extra = [(m, m.get_extra_state()) for m in parts if _has_extra_state(m)]
    storage = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers())]
    try:
        for tensor, data in storage:
            tensor.data = data.clone()
        module.load_state_dict(weights)
        yield
    finally:
        for tensor, data in storage:
            tensor.data = data
        for tensors, before in registered:
            tensors.update(before)
        for part, state in extra:
            part.set_extra_state(state)


def _has_extra_state(module):
    return type(module).set_extra_state is not nn.Module.set_extra_state


class BaseGradientImportance(BaseExampleImportance):
    """Base class of example importance by gradients.

    A subclass has the parameters ``loss``, ``parameters`` and ``n_draws``. Its ``_fit_corpus``
    decides by `_try_gradients` how gradients are taken, and whatever runs later asks `_gradients`
    for them, inside of the explainer's session.
    """

    _projection = None

    def _explained(self):
        return {"layer": None, "several": True}  # the loss looks at all outputs

    def _check_params(self):
        super()._check_params()
        check_positive_int("n_draws", self.n_draws)
        if self.loss is not None and not callable(self.loss):
            raise TypeError(
                f"loss={self.loss!r} must be None or a callable(output, x) that returns one "
                "number a sample."
            )

    def _network(self):
        """Return the session's network."""
        return Network(self.estimator_, self._representation)

    def _losses(self, network):
        params = self._params_at_fit
        return network.losses(params.loss, params.n_draws, self.seed_)

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
            Of two training examples, with the result of `Losses.evaluate`.
        """
        self.parameters_ = choose_parameters(network.module, self._params_at_fit.parameters)
        x = network.tensor(_two_different(self._corpus))
        trial = Trial(losses.evaluate, network.module, self.parameters_, x, watched)
        _, outputs, values = trial.result
        separate = not self._representation.probe.random
        check_losses(losses, x, outputs, values, separate=separate)
        self._plan = trial.plan(values, losses)
        return trial

    def _gradients(self):
        """Return what takes gradients, to be used inside of this session."""
        network = self._network()
        losses = self._losses(network)
        return GradientPass(network, losses, self._plan, self.batch_size, self._projection)
