"""The network whose losses gradients are taken of, and its parameters."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from ..gradients import Labelled
from ..layers import plain_name, unwrapped
from ..representation import BlackBox, Chain, Stage, named_steps, unwrap
from ..training import PretextNet
from ..utils import did_you_mean, kept_rows, numpy_dtype_of
from ._losses import (
    ALTERNATIVES,
    GivenLoss,
    Losses,
    ReconstructionLoss,
    draws_of,
    no_loss,
    takes_targets,
    tensors_of,
)
from ._net_loss import LossPlan, NetLoss
from ._objective import Planner

_ROWS = 1024  # in the network at once, where no gradients are kept
_N_BANK = 256  # training examples that stand for all, where a loss looks at others


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
        boxes = [step for step in (*self._before, last) if isinstance(step, BlackBox)]
        if boxes or not isinstance(last, Stage):
            step = boxes[0].reason if boxes else None
            problem = "has no torch form" if step else "is no network"
            raise TypeError(
                f"{step or type(unwrap(estimator)).__name__} {problem}: gradients need a network "
                "as the last step, after steps that have a torch form. Transform X before and "
                f"pass the network alone (with loss, if it is a module), or {ALTERNATIVES}."
            )
        self._stage = last
        hooks = last.module._forward_hooks or last.module._forward_pre_hooks
        self.module = last.module if hooks else unwrapped(last.module)
        # An autoencoder is explained by its codes, but its loss looks at reconstructions.
        self._run = last.call if last.method == "forward" else self.module
        owner = unwrap(estimator)
        while isinstance(owner, Pipeline):
            owner = unwrap(named_steps(owner)[-1][1])
        net = owner if isinstance(owner, NeuralNet) else getattr(owner, "net_", None)
        self.net = net if isinstance(net, NeuralNet) else None
        self._owner = owner

    @property
    def users_module(self):
        """The user's network, of which this one may be a view."""
        if self.net is not None:
            return self.net.module_
        return self._owner if isinstance(self._owner, nn.Module) else self.module

    @property
    def trains_by_pretext(self):
        """Whether there is no loss but that of reconstructing: of a module, or an autoencoder."""
        return self.net is None or isinstance(self.net, PretextNet)

    @property
    def numpy_dtype(self):
        """Dtype of the network's numbers, or one of numpy's that is like it."""
        return numpy_dtype_of(self.representation.output_dtype)

    def tensor(self, inputs):
        """Run the explainer's inputs through the steps before the network.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...) or Labelled
            Samples, perhaps with targets.

        Returns
        -------
        batch : torch.Tensor of shape (n, ...) or Labelled
        """
        if isinstance(inputs, Labelled):
            y = torch.as_tensor(inputs.y).to(self.representation.device)
            dtype = self._stage.dtype if y.is_floating_point() else None
            return Labelled(self.tensor(inputs.x), y if dtype is None else y.to(dtype))
        x = self.representation.tensor(inputs)
        with torch.no_grad():
            for step in self._before:
                x = step(x)
        if self._stage.takes_integers or self._stage.dtype is None:
            return x
        return x.to(self._stage.dtype)

    def batches(self, inputs, n_rows=_ROWS):
        """Yield a few samples at a time, as `tensor` returns them."""
        for i in range(0, len(inputs), n_rows):
            yield self.tensor(inputs[i : i + n_rows])

    def net_loss(self, plan):
        """Return the skorch net's own loss."""
        return NetLoss(self.net, self.module, self.representation.device, plan)

    def infer(self, x):
        """Run the network as the skorch net does in training."""
        return self.net_loss(LossPlan("samples")).net.infer(x)

    def plan_loss(self, loss, inputs, y, seed):
        """Decide what the loss of a sample is.

        Parameters
        ----------
        loss : callable, str or None
            The user's, or the name of one that the net has.
        inputs : ndarray of shape (n, ...)
            Training examples.
        y : ndarray of shape (n, ...) or None
            What ``fit`` was given.
        seed : int
            For whatever is drawn on the way.

        Returns
        -------
        plan : LossPlan

        Raises
        ------
        ValueError
            If the user's loss takes y, and there is none.
        """
        if loss is None or isinstance(loss, str):
            if hasattr(self.net, "sample_objective"):
                self._objective(loss, 1, seed)
                return LossPlan("objective")
            if loss is not None:
                raise ValueError(
                    f"loss={loss!r} is of contrastive encoders, but {type(self._owner).__name__} "
                    "is none; pass a callable, or None."
                )
            if self.trains_by_pretext:
                return LossPlan("reconstruction")
            return Planner(self, inputs, y, seed).plan()
        if takes_targets(loss) and y is None:
            raise ValueError(
                f"loss={loss!r} takes (output, x, y), but fit was given no y; call fit(X, y)."
            )
        return LossPlan("given", takes_y=takes_targets(loss))

    def _objective(self, loss, n_draws, seed):
        """Return the loss of single samples that a net has for its loss of batches."""
        try:
            return self.net.sample_objective(loss, n_draws, seed)
        except TypeError as error:
            raise no_loss(str(error)) from None

    def losses(self, plan, loss, n_draws, seed, examples):
        """Make the function from a batch to one loss a sample.

        Parameters
        ----------
        plan : LossPlan
            What `plan_loss` decided.
        loss : callable, str or None
            The user's, or the name of one that the net has.
        n_draws : int
            Number of draws of a random pretext task, or of views.
        seed : int
            Of the draws, which are the same for all samples.
        examples : ndarray of shape (n, ...)
            Training examples.

        Returns
        -------
        losses : Losses
        """
        if plan.source == "objective":
            objective = self._objective(loss, n_draws, seed)
            objective.prepare(self.module, lambda: self.tensor(kept_rows(examples, seed, _N_BANK)))
            return Losses(self.module, objective.run, objective, objective.draws)
        run = self._run
        if plan.source == "given":
            loss = GivenLoss(loss, plan.takes_y)
        elif plan.source == "reconstruction":
            loss = ReconstructionLoss(nn.MSELoss() if self.net is None else self.net.criterion_)
        else:
            loss = self.net_loss(plan)
            run = loss.net.infer
        pretext = self.net if isinstance(self.net, PretextNet) else None
        return Losses(self.module, run, loss, lambda x: draws_of(pretext, x, n_draws, seed))

    def predicted(self, x, like):
        """Return the targets that the network predicts, if they are classes.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            Samples, as `tensor` returned them.
        like : ndarray of shape (n_train, ...)
            Targets of the training examples.

        Returns
        -------
        y : ndarray of shape (n, ...) or None
            None if the targets are no classes that are numbered as the output's columns are.
        """
        output = self._run(x) if self.net is None else self.infer(x)
        scores = tensors_of(output)[0]
        # What has the input's shape may be a reconstruction.
        classifier = self.net is not None and is_classifier(self.net)
        if not classifier and (scores is not output or scores.shape == x.shape):
            return None
        if isinstance(self.net, NeuralNetBinaryClassifier):
            twin = self.net_loss(LossPlan("samples")).net
            y = twin._get_predict_nonlinearity()(scores)[:, 1] > twin.threshold
        elif scores.ndim > 1 and like.dtype.kind in "iu" and like.max() < scores.shape[1] > 1:
            y = scores.argmax(dim=1)
        else:
            return None
        return y.cpu().numpy().astype(like.dtype) if y.shape[1:] == like.shape[1:] else None


def _steps(chain):
    if not isinstance(chain, Chain):
        return [chain]
    return [step for part in chain.steps for step in _steps(part)]


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
    wanted = [plain_name(name, {*named, *parts}) for name in wanted]
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
