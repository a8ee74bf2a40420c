"""What example importance by gradients shares: the loss, the parameters, the passes."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from ..gradients import (
    Labelled,
    Trial,
    join_terms,
    per_sample_gradients,
    project_terms,
    scale_terms,
    terms_bytes,
)
from ..layers import plain_name, unwrapped
from ..representation import BlackBox, Chain, Stage, named_steps, unwrap
from ..training import SAMPLE_LOSSES, PretextNet
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
    did_you_mean,
    in_blocks,
    kept_rows,
    n_shape,
    numpy_dtype_of,
)
from ._base import BaseExampleImportance
from ._losses import (
    ALTERNATIVES,
    GivenLoss,
    Losses,
    ReconstructionLoss,
    acts_on_weights,
    check_losses,
    draws_of,
    is_flat,
    no_loss,
    takes_targets,
    tensors_of,
)
from ._objective import LossPlan, NetLoss, Planner, as_targets, telling_rows

_CACHE_BYTES = 2**28  # gradients of the corpus kept for the next samples
_BLOCK_BYTES, _MOST_ROWS = 2**27, 2**13  # gradients of samples at once
_N_BANK = 256  # training examples that stand for all, where a loss looks at others
_ROWS = 1024  # in the network at once, where no gradients are kept
_N_TRIED = 6  # training examples whose gradients are compared with a loop


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
    factors : dict of str to float or None
        What gradients are multiplied with, by parameter; to be set from outside.
    """

    def __init__(self, network, losses, plan, batch_size, projection=None):
        self.network, self.losses, self.plan = network, losses, plan
        self.module = network.module
        self.parameters = list(plan.bound(network.module).parameters.values())
        self._batch_size = network.representation.block_rows(batch_size)
        if network.representation.device.type != "cpu":
            # Second derivatives keep a pass's steps, and those of its backward pass.
            self._batch_size = max(1, self._batch_size // 4)
        self._projection, self._kept, self.factors = projection, {}, None
        self.bytes_per_sample = plan.bytes_per_sample
        if projection is not None:
            self.bytes_per_sample = projection[0] * self.parameters[0].element_size()

    def _terms(self, x):
        terms = per_sample_gradients(self.losses, self.module, x, self.plan)
        terms = scale_terms(terms, self.factors)
        return terms if self._projection is None else project_terms(terms, *self._projection)

    def batches(self, inputs, n_rows=None):
        """Yield the network's inputs, a few samples at a time."""
        step = self._batch_size if n_rows is None else min(n_rows, self._batch_size)
        for i in range(0, len(inputs), step):
            yield self.network.tensor(inputs[i : i + step])

    def terms(self, inputs):
        """Return the gradients of all inputs."""
        tensor = self.network.tensor
        blocks = in_blocks(
            lambda rows: self._terms(tensor(inputs[rows])), len(inputs), self._batch_size
        )
        return join_terms([terms for _, terms in blocks])

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
        """Number of samples whose gradients fit into memory; more than some gain nothing."""
        return max(1, min(_MOST_ROWS, _BLOCK_BYTES // self.bytes_per_sample))


def _no_gradient_text(names):
    """Words of the error about a loss that no parameter acts on, as far as gradients show."""
    listed = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
    return (
        f"the loss has no gradient in the parameters {listed}, so all importance would be 0: it "
        "does not depend on them, or only through detach() or a lookup. Name other parameters, or "
        f"{ALTERNATIVES}."
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
            If y has another shape than in fit, or is missing and cannot be predicted.
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
        targets = [known.get(row.tobytes()) for row in rows]
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
        return as_targets(y, self._loss_plan.cast, ours.dtype).astype(ours.dtype)

    def _known_targets(self):
        """Targets of the training examples by their bytes; None where equal ones disagree."""
        known = {}
        for row, target in zip(np.ascontiguousarray(self._corpus), self._targets, strict=True):
            found = known.setdefault(row.tobytes(), target)
            if found is not None and not np.array_equal(found, target):
                known[row.tobytes()] = None
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
        x = network.tensor(self._examples[telling_rows(self._corpus, _N_TRIED)])
        trial = Trial(losses.evaluate, network.module, self.parameters_, x, watched)
        _, outputs, values = trial.result
        if not values.requires_grad:
            raise TypeError(_no_gradient_text(self.parameters_))
        separate = not probe.random
        check_losses(losses, x, outputs, values, separate=separate)
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
