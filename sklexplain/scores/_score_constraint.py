"""Scores of the embedding as constraints in training."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch import nn

from ..layers import find_points, known_layer, named_layers, parse_path, pick, run_to, uncompiled
from ..training import evaluating
from ..utils import (
    NONE,
    SEED,
    Choice,
    Integer,
    Number,
    RandomState,
    Text,
    check_params,
    draw_seed,
    seeded,
    warn,
)
from ._score_terms import add_gradients, piecewise_linear, run

_SCORES = {"noise_score": "lambda_noise", "variance_score": "lambda_variance"}


class ScoreConstraint(Callback):
    r"""Skorch callback that makes a net learn embeddings with high noise and variance scores.

    Every `score_every` mini-batches, the gradient of

    .. math:: - \lambda_1 N_p - \lambda_2 V_p

    is added to that of the net's loss before the optimizer's step, which is what training on the
    sum of them does (section 4.5 of [1]_). :math:`N_p`, the noise score at layer p, is how far the
    map of where the layer builds the embedding of a sample differs from that of a noise input
    (equation 1 there); :math:`V_p`, the variance score, is the variance of such maps over the units
    of the embedding (equation 3). Both are means over some samples of the mini-batch.

    Give it to any skorch net in ``callbacks``; :class:`Autoencoder` makes one of its parameters
    `lambda_noise` and `lambda_variance`.

    Parameters
    ----------
    lambda_noise : float, default=0.0
        Weight of the noise score.

    lambda_variance : float, default=0.0
        Weight of the variance score. With both weights 0 the callback does nothing.

    score_every : int, default=20
        The first mini-batch of a fit is scored, and then every one that comes this many later, over
        all epochs.

    score_layer : str or None, default=None
        Layer p, a submodule of ``net.module_`` by its name in ``named_modules()``
        (``"lstm[0]"`` for the first item of what it returns); its output is looked at. None for the
        second convolution on the way to the embedding; with fewer than two, for the last
        convolution, linear, recurrent or attention layer before the one that makes the embedding.

    output : str or None, default=None
        The embedding, another submodule's output. None for what ``net.module_.encoder`` makes of
        the inputs if there is one, and for the module's own output if not.

    n_score_samples : int or None, default=8
        How many samples of the mini-batch, drawn at random, are scored; None for all.

    n_noise : int, default=8
        How many noise inputs all of these samples are compared with.

    noise : {"data", "unit"}, default="data"
        Noise inputs are drawn uniformly between the 1st and the 99th percentile of the data, of
        each column where samples have one axis and of all entries together otherwise; or between 0
        and 1. The data are the X given to `fit`; if that is no array (a Dataset, for example), the
        mini-batch.

    random_state : int, RandomState instance or None, default=None
        Determines which samples are scored, and the noise. The global generators are not touched.

    Attributes
    ----------
    score_layer_ : str
        The layer that was looked at.

    n_batches_ : int
        Number of training mini-batches seen.

    See Also
    --------
    sklexplain.nets.Autoencoder : An estimator with these constraints.
    sklexplain.NoiseScorer : The score of a trained network.
    sklexplain.VarianceScorer : The score of a trained network.

    Notes
    -----
    The maps are activations times gradients. For N their absolute values are averaged over channels
    and units; for V they are averaged over channels, one map for each unit. Every map is scaled to
    [0, 1]; V has the population variance and is at most 1/4.

    ``net.history`` has "noise_score" and "variance_score" for every scored mini-batch, and their
    means for every epoch (NaN in one without a scored mini-batch). "train_loss" stays the loss of
    the net. Put callbacks that change gradients, such as clipping, behind this one. An optimizer
    that evaluates its loss several times a step (L-BFGS) sees the gradient but not the value.

    Scores are computed in eval mode: dropout is off, BatchNorm uses its running statistics and does
    not change them. Where only elementwise functions, pooling of separate windows and one last
    linear layer lead from the layer to the embedding, as modules of their own, no gradient has to
    be taken for each unit, and a step that scores is little more expensive than any other. For
    other networks the cost grows with the number of units, least if elementwise modules and pooling
    come directly after the layer.

    Piecewise linear activations between the layer and the embedding (ReLU) have no second
    derivative: the constraint then cannot act through them, and a warning says so. Softplus has
    one, and is what [1]_ uses.

    References
    ----------
    .. [1] M. Bertolini, D.-A. Clevert and F. Montanari, "Explaining, Evaluating and Enhancing
       Neural Networks' Learned Representations", ICANN 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skorch import NeuralNetRegressor
    >>> from sklexplain.nets import ScoreConstraint
    >>> X = np.random.RandomState(0).uniform(size=(64, 6)).astype(np.float32)
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Linear(6, 8), torch.nn.Softplus(), torch.nn.Linear(8, 2)
    ... )
    >>> constraint = ScoreConstraint(lambda_variance=0.1, score_every=1, random_state=0)
    >>> net = NeuralNetRegressor(
    ...     module, callbacks=[constraint], max_epochs=2, train_split=None, verbose=0
    ... )
    >>> _ = net.fit(X, X[:, :2])
    >>> constraint.score_layer_
    '0'
    >>> [0 < score <= 0.25 for score in net.history[:, "variance_score"]]
    [True, True]
    """

    _parameter_constraints = {
        "lambda_noise": [Number(at_least=0)],
        "lambda_variance": [Number(at_least=0)],
        "score_every": [Integer()],
        "score_layer": [Text("the name of a layer", empty=False), NONE],
        "output": [Text("the name of a layer"), NONE],
        "n_score_samples": [Integer(), NONE],
        "n_noise": [Integer(1, 100_000)],
        "noise": [Choice("data", "unit")],
        "random_state": [SEED],
    }

    def __init__(
        self,
        lambda_noise: float = 0.0,
        lambda_variance: float = 0.0,
        *,
        score_every: int = 20,
        score_layer: str | None = None,
        output: str | None = None,
        n_score_samples: int | None = 8,
        n_noise: int = 8,
        noise: Literal["data", "unit"] = "data",
        random_state: RandomState = None,
    ) -> None:
        self.lambda_noise = lambda_noise
        self.lambda_variance = lambda_variance
        self.score_every = score_every
        self.score_layer = score_layer
        self.output = output
        self.n_score_samples = n_score_samples
        self.n_noise = n_noise
        self.noise = noise
        self.random_state = random_state

    def initialize(self) -> Self:
        """Check the parameters and forget earlier training.

        Returns
        -------
        self : ScoreConstraint

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        self._params = check_params(self)
        self.n_batches_ = 0
        self._seed = draw_seed(self._params["random_state"])
        self._range = None
        self._due = False
        self.__dict__.pop("score_layer_", None)
        return self

    def on_train_begin(
        self, net: NeuralNet, X: ArrayLike | None = None, y: ArrayLike | None = None, **kwargs: Any
    ) -> None:
        """Determine the range of the data, for the noise."""
        if not self._is_on():
            return
        # The module may be a new one, so its layer is sought, and warned of, again.
        self._point = None
        self._range = None
        if self.noise == "data" and isinstance(X, (np.ndarray, torch.Tensor)):
            self._range = _percentiles(X)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Drop the reference to the module."""
        self._point = None

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Count the mini-batches."""
        if training:
            self._due = self.n_batches_ % self._params["score_every"] == 0
            self.n_batches_ += 1

    def on_grad_computed(
        self,
        net: NeuralNet,
        named_parameters: Any,
        batch: Any = None,
        training: bool = True,
        **kwargs: Any,
    ) -> None:
        """Add the gradient of the constraints, if it is time to."""
        if not (training and self._due and self._is_on()):
            return
        x = self._inputs(net, batch)
        rng = np.random.default_rng([self._seed, self.n_batches_])
        if self._params["n_score_samples"] is not None and self._params["n_score_samples"] < len(x):
            chosen = rng.permutation(len(x))[: self._params["n_score_samples"]]
            x = x[torch.from_numpy(chosen).to(x.device)]
        noise = torch.from_numpy(self._noise(x, rng)).to(x)
        scores = self._add_gradients(net, x, noise)
        for name, score in scores.items():
            net.history.record_batch(name, score)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the means of the scores."""
        for name, weight in _SCORES.items():
            if getattr(self, weight):
                batches = net.history[-1]["batches"]
                values = [batch[name] for batch in batches if name in batch]
                net.history.record(name, float(np.mean(values)) if values else math.nan)

    def __getstate__(self):
        """Return the state without the module."""
        return vars(self) | {"_point": None}

    def _is_on(self):
        return bool(self._params["lambda_noise"] or self._params["lambda_variance"])

    def _inputs(self, net, batch):
        """Return the inputs as one tensor on the net's device; raise a TypeError otherwise."""
        x = to_tensor(unpack_data(batch)[0], device=net.device)
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            kind = f"a tensor of {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise TypeError(
                f"ScoreConstraint compares samples with noise inputs, and needs X to be one tensor "
                f"of floating point numbers; this net is given {kind}."
            )
        return x.detach()

    def _noise(self, x, rng):
        """Draw the noise inputs."""
        low, high = 0.0, 1.0
        if self.noise == "data":
            low, high = _percentiles(x) if self._range is None else self._range
        return rng.uniform(low, high, size=(self._params["n_noise"], *x.shape[1:]))

    def _add_gradients(self, net, x, noise):
        """Add the gradients to those of the parameters; return the scores as numbers."""
        module = net.module_
        parts = list(module.modules())
        recurrent = any(isinstance(part, nn.RNNBase) for part in parts)
        # cuDNN has no second derivative of recurrent layers, and no first one in eval mode.
        cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
        call = _embedding(net, self.output)
        seed = (self._seed + self.n_batches_) % 2**31  # for networks that draw in eval mode too
        with (
            evaluating(module),
            uncompiled(parts),
            seeded(seed, x.device),  # the net's own may be None
            torch.enable_grad(),
            cudnn,
        ):
            if self._point is None:
                self._point = self._find_point(call, module, x)
                self.score_layer_ = self._point.name
                self._warn_of_gates(run(call, self._point, x[:1], parts))
            scores = add_gradients(
                lambda batch: run(call, self._point, batch, parts),
                x,
                noise,
                self._params["lambda_noise"],
                self._params["lambda_variance"],
            )
        return {name: score.item() for name, score in scores.items()}

    def _find_point(self, call, module, x):
        """Find the layer to score; raise a ValueError if there is none or it has one position."""
        modules = named_layers(module)
        if self.score_layer is not None:
            if isinstance(self.score_layer, str):
                known_layer(parse_path(self.score_layer)[0], modules, "score_layer")
            point = find_points(
                call, x, modules, layers=[self.score_layer], parameter="score_layer"
            )[0]
        else:
            points = find_points(call, x, modules)
            hidden = [point for point in points.hidden if not point.is_output]
            convolutions = [p for p in hidden if isinstance(p.module, nn.modules.conv._ConvNd)]
            if not hidden:
                raise ValueError(
                    "score_layer=None needs a convolution, linear, recurrent or attention layer "
                    "before the one that makes the embedding, and there is none: name a layer, or "
                    "give the network a hidden one."
                )
            point = convolutions[1] if len(convolutions) > 1 else hidden[-1]
        if math.prod(point.spatial_shape) == 1:
            raise ValueError(
                f"score_layer={point.name!r} has a single position, so its maps are constant: name "
                "a layer with several positions, or several units."
            )
        return point

    def _warn_of_gates(self, record):
        names = sorted(piecewise_linear(record))
        if names:
            warn(
                f"Between score_layer={self.score_layer_!r} and the embedding there are piecewise "
                f"linear functions ({', '.join(names)}), which have no second derivative: the "
                "score constraints cannot act through them. Use softplus there (for Autoencoder: "
                "activation='softplus')."
            )


def _percentiles(X):
    """Return the 1st and the 99th percentile, of columns or of all entries."""
    X = X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else X
    return np.percentile(X, [1, 99], axis=0 if X.ndim == 2 else None) + 0.0  # no -0.0


def _embedding(net, output):
    """Return a function from inputs to the embedding; raise a ValueError for unknown layers."""
    module = net.module_
    if output is None:
        encoder = getattr(module, "encoder", None)
        call, where, items = (
            (encoder, "encoder", ()) if isinstance(encoder, nn.Module) else (module, "", ())
        )
        return lambda x: pick(call(x), items, where)
    name, items = parse_path(output)
    modules = named_layers(module)
    name = known_layer(name, modules, "output")

    def call(x):
        made, n_calls = run_to(module, modules[name], x, n_calls=None)
        if n_calls == 0:
            raise ValueError(f"output={output!r} is not called in the module's forward pass.")
        return pick(made, items, name)

    return call
