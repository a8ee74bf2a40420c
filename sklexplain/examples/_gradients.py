"""What example importance by gradients shares: the loss, the parameters, the passes."""

import copy
import difflib
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from torch import nn

from ..gradients import join_terms, per_sample_gradients, plan_gradients, project_terms, terms_bytes
from ..representation import Chain, Stage, named_steps, unwrap
from ..training import corrupt
from ..utils import check_positive_int
from ._base import BaseExampleImportance

ALTERNATIVES = (
    "use DKNNImportance or SimplExImportance, which look at representations and need no loss"
)
_CACHE_BYTES = 2**28  # gradients of the corpus kept for the next samples
_BLOCK_BYTES = 2**27  # gradients of samples at once
_SAME = 1e-3  # largest relative difference between a loss in a batch and alone


class Network:
    """The network that was trained, what comes before it, and its loss for each sample.

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
        """Make what the network itself is given of the explainer's inputs."""
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

    def output(self, part):
        """Return what the network makes of a batch and the loss compares."""
        output = self.module(part)
        return output[0] if self._first and isinstance(output, (tuple, list)) else output

    def inputs(self, x):
        """Return what the network is given: the batch, corrupted in every way."""
        if self._draws is None:
            self._draws = self._make_draws(x)
        return [draw(x) for draw in self._draws]

    def compare(self, output, x):
        """Return one loss a sample, of the network's output."""
        return _checked(self._loss(output, x), x)


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
            raise _unknown(name, [*named, *parts], type(module).__name__)
        own = [named[name]] if name in named else parts[name].parameters()
        chosen.update(map(id, own))
    names = [name for name, parameter in named.items() if id(parameter) in chosen]
    if not names:
        raise ValueError(f"parameters={parameters!r} has no parameters to take gradients in.")
    return names


def _unknown(name, known, owner):
    near = difflib.get_close_matches(name, filter(None, known), n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    children = ", ".join(repr(k) for k in known if k and "." not in k)
    return ValueError(
        f"parameters: {name!r} is neither a parameter nor a submodule of {owner}.{hint} Name some "
        f"in a list, as in named_parameters() ({children}, …), or pass parameters='all'."
    )


class GradientPass:
    """Per-sample gradients of one network, a batch at a time.

    Made by `gradient_pass`, and used inside it.

    Attributes
    ----------
    plan : GradientPlan
        How each parameter's gradients are had.
    kept : dict
        Gradients that `blocks` has kept; may be handed on to another pass.
    probe : torch.Tensor of shape (2, ...)
        Two samples of the corpus.
    bytes_per_sample : int
        Bytes that the gradients of a sample take.
    """

    def __init__(self, network, losses, names, inputs, batch_size, projection=None, kept=None):
        self.network, self.losses = network, losses
        self._batch_size = network.representation.block_rows(batch_size)
        self._projection = projection
        self.probe = network.tensor(_two_different(inputs))
        check_losses(losses, self.probe)
        self.plan = plan_gradients(losses, network.module, names, self.probe)
        self.bytes_per_sample = max(1, terms_bytes(self._terms(self.probe)) // 2)
        self.kept = {} if kept is None else kept

    def _terms(self, x):
        terms = per_sample_gradients(self.losses, self.network.module, x, self.plan)
        return terms if self._projection is None else project_terms(terms, *self._projection)

    def batches(self, inputs, n_rows=None):
        """Yield what the network is given, a few inputs at a time."""
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
            The weights that the network has now. Not None: the first gradients are kept, for the
            same inputs and key.

        Yields
        ------
        rows : slice
        terms : dict of str to term
        """
        step = self.rows_at_once
        for start in range(0, len(inputs), step):
            rows = slice(start, min(start + step, len(inputs)))
            terms = self.kept.get((key, start))
            if terms is None:
                terms = self.terms(inputs[rows])
                n_bytes = sum(map(terms_bytes, self.kept.values())) + terms_bytes(terms)
                if key is not None and n_bytes <= _CACHE_BYTES:
                    self.kept[key, start] = terms
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


def check_losses(losses, x):
    """Raise unless the loss of every sample is its own.

    Parameters
    ----------
    losses : callable
        From a batch to one loss a sample.
    x : torch.Tensor of shape (2, ...)
        Two samples.

    Raises
    ------
    TypeError
        If the loss in a batch is another one than alone, as with a loss over pairs.
    ValueError
        If it is not finite.
    """
    with torch.no_grad():
        together = losses(x)
        alone = torch.cat([losses(x[i : i + 1]) for i in range(len(x))])
    if not torch.isfinite(together).all():
        raise ValueError("the loss of a training example is not finite; check it and the weights.")
    error = (together - alone).abs().max()
    if not error <= _SAME * alone.abs().max():  # nor if a sample alone gives NaN
        raise TypeError(
            "the loss of a sample depends on the other samples in its batch, as a loss over pairs "
            f"(contrastive) does, so it is not the sample's: {ALTERNATIVES}."
        )


@contextmanager
def loaded(module, weights):
    """Put other weights into a network, and put everything back after.

    Parameters
    ----------
    module : nn.Module
        The network.
    weights : dict of str to torch.Tensor or None
        A state dict; None leaves the network as it is.

    Yields
    ------
    None
    """
    if weights is None:
        yield
        return
    tensors = [*module.parameters(), *module.buffers()]
    before = [t.detach().clone() for t in tensors]
    try:
        module.load_state_dict(weights)
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)


class BaseGradientImportance(BaseExampleImportance):
    """Base class of example importance by gradients.

    A subclass has the parameters ``loss``, ``parameters`` and ``n_draws``, calls ``_network`` in
    ``_fit_corpus``, and works inside of ``_gradients``.
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
        """Return the network, and note the parameters' names."""
        network = Network(self.estimator_, self._representation)
        self.parameters_ = choose_parameters(network.module, self._params_at_fit.parameters)
        return network

    @contextmanager
    def _gradients(self, kept=None):
        """Open the network's session, with a function that gives its gradients."""
        network = Network(self.estimator_, self._representation)
        losses = network.losses(self._params_at_fit.loss, self._params_at_fit.n_draws, self.seed_)
        with self._representation.session():
            yield GradientPass(
                network,
                losses,
                self.parameters_,
                self._corpus,
                self.batch_size,
                self._projection,
                kept,
            )
