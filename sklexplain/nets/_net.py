"""From the parameters of an estimator to a skorch net."""

import torch
from skorch.callbacks import EarlyStopping

from ..scores import ScoreConstraint
from ..training import check_net_params
from ..utils import n_shape

# Names that net_params may not have, as something here depends on them, and what to set instead.
_RESERVED = {
    "module": "module",
    "train_split": "validation_split",
    "lambda_noise": "lambda_noise",
    "lambda_variance": "lambda_variance",
    "score_every": "score_every",
    "score_layer": "score_layer",
    "n_score_samples": "n_score_samples",
    "module__n_components": "n_components",
    "module__hidden_layer_sizes": "hidden_layer_sizes",
    "device": "device",
    "max_epochs": "max_epochs",
    "warm_start": None,
}


def make_net(
    net_class, build, estimator, params, module_class, seed, *, reserved, stopping=None, **settings
):
    """Make the skorch net of an estimator, not initialised.

    Parameters
    ----------
    net_class : type
        Of the net.

    build : callable
        Builds the module.

    estimator : NetEstimator
        Its `input_shape_` is used.

    params : object
        Has its parameters, checked, as attributes.

    module_class : type
        The class that makes the encoder.

    seed : int
        Determines what score constraints draw.

    reserved : dict of str to (str or None)
        More names that ``net_params`` may not have, and the estimator's parameter for each.

    stopping : dict or None, default=None
        More parameters of early stopping.

    **settings : objects
        More parameters of the net.

    Returns
    -------
    net : SplitNet
        The net.

    Raises
    ------
    ValueError
        If `net_params` has a name that is unknown, or that is set elsewhere.
    """
    extra = check_net_params(params.net_params, type(estimator).__name__, _RESERVED | reserved)
    callbacks = extra.pop("callbacks", None) or []
    if params.lambda_noise > 0 or params.lambda_variance > 0:
        constraint = ScoreConstraint(
            lambda_noise=params.lambda_noise,
            lambda_variance=params.lambda_variance,
            score_every=params.score_every,
            score_layer=params.score_layer,
            n_score_samples=params.n_score_samples,
            random_state=seed,
        )
        # First, so that a callback that clips gradients clips these too.
        callbacks = [("score_constraint", constraint), *callbacks]
    if params.validation_split is not None:
        stop = EarlyStopping(patience=params.patience, load_best=True, **(stopping or {}))
        # Last: callbacks after it would not be called for the epoch in which it stops.
        callbacks = [*callbacks, ("early_stopping", stop)]
    ours = {
        "criterion": torch.nn.MSELoss,  # skorch requires one
        "optimizer": torch.optim.Adam,
        "lr": params.lr,
        "batch_size": params.batch_size,
        "iterator_train__shuffle": True,
        "verbose": params.verbose,
    }
    if params.activation is not None:
        ours["module__activation"] = params.activation
    if params.weight_decay > 0:  # not every optimizer that may be given takes it
        ours["optimizer__weight_decay"] = params.weight_decay
    return net_class(
        build,
        module__module_class=module_class,
        module__input_shape=estimator.input_shape_,
        module__n_components=params.n_components,
        module__hidden_layer_sizes=params.hidden_layer_sizes,
        callbacks=callbacks,
        train_split=None,
        max_epochs=params.max_epochs,
        device=params.device,
        **(ours | settings | extra),
    )


def check_codes(module, x, n_components):
    """Check that codes have the shape that they should have.

    Parameters
    ----------
    module : torch.nn.Module
        The module, in eval mode.

    x : torch.Tensor of shape (n, ...)
        A few inputs.

    n_components : int
        The expected length of the code.

    Returns
    -------
    code : torch.Tensor of shape (n, n_components)

    Raises
    ------
    ValueError
        If the shape is different.
    """
    with torch.no_grad():
        code = module.encode(x)
    if code.shape != (len(x), n_components):
        raise ValueError(
            f"The encoder made codes of shape {n_shape(code.shape[1:])} from X of shape "
            f"{n_shape(x.shape[1:])}: with n_components={n_components} the codes must be "
            f"{n_shape((n_components,))}."
        )
    return code


def check_module_shapes(module, x, n_components):
    """Check that codes and reconstructions have the shapes that they should have.

    Parameters
    ----------
    module : AutoencoderModule
        The module, in eval mode.

    x : torch.Tensor of shape (n, ...)
        A few inputs.

    n_components : int
        The expected length of the code.

    Raises
    ------
    ValueError
        If a shape is different.
    """
    code = check_codes(module, x, n_components)
    with torch.no_grad():
        output = module.decode(code)
    if output.shape != x.shape:
        raise ValueError(
            f"The decoder made reconstructions of shape {n_shape(output.shape[1:])} of X of "
            f"shape {n_shape(x.shape[1:])}: both must be the same."
        )
