"""What fitting an explanation by concepts needs: checks of parameters, scales, warnings."""

from collections.abc import Iterable
from functools import partial
from numbers import Real

import numpy as np
import torch

from ..exceptions import ConvergenceWarning
from ..layers import root_mean_square
from ..training import check_finite_weights, check_validation_split, make_array_net, still_improves
from ..utils import check_choice, check_positive_int, seeded, warn
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
    TypeError, ValueError
        Naming the parameter and what it must be.
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
        _check_number(name, getattr(explainer, name), "at least 0", lambda value: value >= 0)
    for name in ("q", "lr"):
        _check_number(name, getattr(explainer, name), "positive", lambda value: value > 0)
    check_validation_split(explainer.validation_split)


def _check_number(name, value, wanted, is_right):
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
    # What rounding alone makes vary does not.
    return np.where(std > 1e-6 * np.abs(targets).max(axis=0), std, 1.0)


def train_concepts(explainer, z, targets, train, valid):
    """Train the explanation module on a layer's activations.

    Parameters
    ----------
    explainer : SRAEExplainer
        Its parameters, seed and device are used.
    z : ndarray of shape (n, *shape)
        Activations.
    targets : ndarray of shape (n, n_targets)
        What is told from the concepts.
    train, valid : ndarray of int, ndarray of int or None
        Rows to fit on, and to watch.

    Returns
    -------
    net : ArrayNet

    Raises
    ------
    ValueError
        If training diverged.
    """
    module_params = {
        "shape": z.shape[1:],
        "n_concepts": explainer.n_concepts,
        "hidden_layer_sizes": tuple(explainer.hidden_layer_sizes),
        "z_scale": root_mean_square(z),
        "y_mean": targets.mean(axis=0, dtype=np.float64),
        "y_scale": spread(targets),
    }
    # Short trainings too should see the full loss most of the time.
    warm_up = min(explainer.warm_up, explainer.max_epochs // 3)
    names = ("beta", "pull_away", "q", "penalty")
    objective = ConceptObjective(
        **{name: getattr(explainer, name) for name in names}, warm_up=warm_up
    )
    device = explainer._representation.device
    with torch.inference_mode(False), torch.enable_grad(), seeded(explainer.seed_, device):
        module = ConceptModule(**module_params)
        net = make_array_net(
            explainer,
            module,
            device,
            {"module": "hidden_layer_sizes", "criterion": "penalty"},
            stopping=partial(StopAfterWarmUp, warm_up),
            batch_size=50,
            **_weight_decay(explainer.net_params),
        )
        arrays = {"z": z, "y": module.standardised(targets)}
        net.fit_arrays(arrays, objective, train, valid)
    check_finite_weights(net, f"Lower lr={explainer.lr}.")
    net.module_.orient()
    return net


def _weight_decay(net_params):
    """Adam's; not every other optimizer takes one."""
    return {} if "optimizer" in (net_params or {}) else {"optimizer__weight_decay": 1e-4}


def warn_unless_converged(explainer):
    """Warn if the held-out loss still improved when the last epoch was reached.

    Parameters
    ----------
    explainer : SRAEExplainer
        After training.

    Warns
    -----
    ConvergenceWarning
        Naming ``max_epochs``.
    """
    if still_improves(explainer.net_):
        warn(
            f"The validation loss still improved when max_epochs={explainer.max_epochs} was "
            "reached: raise max_epochs or lr.",
            ConvergenceWarning,
        )
