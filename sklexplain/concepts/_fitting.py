"""Helpers of fitting an explanation by concepts: checks of parameters, scales, warnings."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from numbers import Real

import numpy as np
import torch

from ..exceptions import ConvergenceWarning
from ..explaining import fitted_baseline, mean_sample
from ..layers import activation_moments
from ..training import check_finite_weights, check_validation_split, make_array_net, still_improves
from ..utils import check_choice, check_positive_int, known_range, seeded, warn
from ._losses import PENALTIES
from ._network import ConceptModule, ConceptObjective, StopAfterWarmUp


def check_concept_params(explainer):
    """Validate the parameters of an `SRAEExplainer` that its base does not.

    Parameters
    ----------
    explainer : SRAEExplainer
        Its parameters are checked.

    Raises
    ------
    TypeError
        If a parameter is of the wrong type.
    ValueError
        If a parameter is out of range or is not one of its choices.
    """
    for name in ("n_concepts", "max_epochs", "patience"):
        check_positive_int(name, getattr(explainer, name))
    check_positive_int("warm_up", explainer.warm_up, minimum=0)
    if not isinstance(explainer.hidden_layer_sizes, Iterable):
        raise TypeError(
            f"hidden_layer_sizes={explainer.hidden_layer_sizes!r} must be a sequence of widths, "
            "such as (100,)."
        )
    for width in explainer.hidden_layer_sizes:
        check_positive_int("hidden_layer_sizes: a width", width)
    check_choice("penalty", explainer.penalty, PENALTIES)
    for name in ("beta", "pull_away"):
        check_number(name, getattr(explainer, name), "at least 0", lambda value: value >= 0)
    for name in ("q", "lr"):
        check_number(name, getattr(explainer, name), "positive", lambda value: value > 0)
    check_validation_split(explainer.validation_split)


def check_number(name, value, wanted, is_right):
    """Validate a parameter that is a number.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given.
    wanted : str
        What it must be, in words.
    is_right : callable
        Tells whether it is.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not what it must be.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number.")
    if not is_right(value):
        raise ValueError(f"{name}={value} must be {wanted}.")


def spread(targets):
    """Return the standard deviation of every target, 1 where it does not vary.

    Parameters
    ----------
    targets : ndarray of shape (n, n_targets)
        Values.

    Returns
    -------
    scale : ndarray of shape (n_targets,)
    """
    std = targets.std(axis=0, dtype=np.float64)
    return np.where(_varies(targets, std), std, 1.0)


def _varies(targets, std):
    """Tell which targets vary; what rounding alone makes vary does not."""
    return std > 1e-6 * np.abs(targets).max(axis=0)


def varying_targets(targets, target):
    """Tell which targets vary over the data; warn of those that do not.

    Parameters
    ----------
    targets : ndarray of shape (n, n_targets)
        Values.
    target : Target
        Which outputs they are.

    Returns
    -------
    varying : ndarray of bool of shape (n_targets,)

    Warns
    -----
    SklexplainWarning
        If an output does not vary.
    """
    varying = _varies(targets, targets.std(axis=0, dtype=np.float64))
    if not varying.all() and len(targets) > 1:
        names = [
            "the norm of the output" if target.units is None else f"output {target.units[i]}"
            for i in np.flatnonzero(~varying)
        ]
        verb = "does" if len(names) == 1 else "do"
        warn(
            f"{', '.join(names)} {verb} not vary over X: there is nothing to explain, and no "
            "concept is active for it."
        )
    return varying


def warn_of_nothing_compressed(n_concepts, shape, what, name="n_concepts"):
    """Warn if there are as many concepts as units.

    Parameters
    ----------
    n_concepts : int
        Number of concepts that a sample is told by.
    shape : tuple of int
        Of one sample's activations.
    what : str
        The activations in words.
    name : str, default="n_concepts"
        The parameter.

    Warns
    -----
    SklexplainWarning
        Naming both numbers.
    """
    size = int(np.prod(shape))
    if n_concepts >= size:
        warn(
            f"{name}={n_concepts}, but {what} have {size} unit{'s' if size > 1 else ''}: so "
            "many concepts compress nothing. Set fewer, or explain a larger layer."
        )


@dataclass(frozen=True)
class DataSummary:
    """Summary of the data for maps of concepts, so that the data themselves need not be kept.

    Attributes
    ----------
    mean : ndarray of shape (...)
        Mean sample.
    low, high : ndarray of shape (...)
        Smallest and largest value of every entry.
    background : ndarray of shape (n_background, ...)
        At most 100 samples, drawn at random.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    background: np.ndarray


def summary_of(inputs, representation, seed):
    """Summarise data as they enter the network.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        Samples.
    representation : Representation
        Of the network.
    seed : int
        Of the choice of background samples.

    Returns
    -------
    summary : DataSummary
    """
    mean = mean_sample(representation, inputs)
    options = {"mean": mean, "input_shape": inputs.shape[1:], "seed": seed}
    background = fitted_baseline("background", representation, inputs, **options)
    return DataSummary(mean, *known_range(inputs), background)


def train_concepts(params, z, targets, split, *, seed, device, owner):
    """Train the explanation module on a layer's activations.

    Parameters
    ----------
    params : object
        The explainer's parameters.
    z : ndarray of shape (n, *shape)
        Activations.
    targets : ndarray of shape (n, n_targets)
        Values that are predicted from the concepts.
    split : tuple of (ndarray of int, ndarray of int or None)
        Rows to fit on, and to watch.
    seed : int
        Determines the initial weights and the mini-batches.
    device : torch.device
        Where to train.
    owner : str
        The explainer's name, for messages.

    Returns
    -------
    net : ArrayNet

    Raises
    ------
    ValueError
        If training diverged.
    """
    z_mean, z_scale = activation_moments(z)
    # Plain numbers and arrays: the net can be saved with them, and its module built again.
    module_params = {
        "module__shape": tuple(z.shape[1:]),
        "module__n_concepts": int(params.n_concepts),
        "module__hidden_layer_sizes": tuple(int(n) for n in params.hidden_layer_sizes),
        "module__z_mean": z_mean,
        "module__z_scale": z_scale,
        "module__y_mean": targets.mean(axis=0, dtype=np.float64),
        "module__y_scale": spread(targets),
    }
    # Short trainings too should see the full loss most of the time.
    warm_up = min(int(params.warm_up), int(params.max_epochs) // 3)
    objective = ConceptObjective(
        beta=params.beta,
        pull_away=params.pull_away,
        q=params.q,
        penalty=params.penalty,
        warm_up=warm_up,
    )
    with torch.inference_mode(False), torch.enable_grad(), seeded(seed, device):
        net = make_array_net(
            params,
            ConceptModule,
            device,
            {"module": "hidden_layer_sizes", "criterion": "penalty"},
            owner,
            stopping=partial(StopAfterWarmUp, warm_up),
            batch_size=50,
            **module_params,
            **_weight_decay(params.net_params),
        ).initialize()
        arrays = {"z": z, "y": net.module_.standardised(targets)}
        net.fit_arrays(arrays, objective, *split)
    check_finite_weights(net, f"Lower lr={params.lr}.")
    net.module_.orient()
    net.module_.fold()
    return net


def _weight_decay(net_params):
    """Adam's; not every other optimizer takes one."""
    return {} if "optimizer" in (net_params or {}) else {"optimizer__weight_decay": 1e-4}


def warn_unless_converged(net):
    """Warn if the held-out loss still improved when the last epoch was reached.

    Parameters
    ----------
    net : ArrayNet
        After training.

    Warns
    -----
    ConvergenceWarning
        Naming ``max_epochs``.
    """
    if still_improves(net):
        warn(
            f"The validation loss still improved when max_epochs={net.max_epochs} was reached: "
            "raise max_epochs or lr.",
            ConvergenceWarning,
        )
