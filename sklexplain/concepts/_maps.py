"""Maps of where in a sample its concepts come from."""

import numpy as np

from ..attribution import LabelFreeAttributor
from ..explaining import BASELINES, METHODS
from ..representation import Representation
from ..utils import check_choice
from ._excitation import excitation_maps

EXCITATION = "excitation_backprop"
_COPIED = ("estimator_", "n_features_in_", "feature_names_in_", "input_shape_", "seed_", "_raw")


class ConceptRepresentation(Representation):
    """A network up to a layer, and the encoder of concepts on it: x to (b, n_concepts).

    Parameters
    ----------
    representation : Representation
        Of the whole network.
    tap : LayerTap
        The layer.
    module : ConceptModule
        The encoder.
    inputs : ndarray of shape (n, *shape)
        Samples; at most three are run.
    """

    def __init__(self, representation, tap, module, inputs):
        vars(self).update(vars(representation))
        self._tap, self._module = tap, module
        self.n_units = module.head.in_features
        self.no_torch_form = None
        self._bytes_per_row = self._saved_bytes(inputs[[i % len(inputs) for i in range(3)]])

    def _run(self, x):
        return self._module.encode(self._tap(x)).to(self.output_dtype)

    def __call__(self, x):
        """Concepts of a batch."""
        return self._run(x)


def concept_maps(explainer, X, method, method_params, baseline):
    """Attributions of every concept.

    Parameters
    ----------
    explainer : SRAEExplainer
        Fitted.
    X : array-like
        Samples.
    method, method_params, baseline
        See `LabelFreeAttributor`.

    Returns
    -------
    maps : ndarray of shape (n, n_concepts, *X.shape[1:])
    """
    check_choice("method", method, [*METHODS, EXCITATION])
    inputs = explainer._inputs(X)
    excitation = method == EXCITATION
    if excitation and method_params:
        raise ValueError(f"method_params={method_params}: method={method!r} has no parameters.")
    attributor = LabelFreeAttributor(
        explainer.estimator_,
        method="input_x_gradient" if excitation else method,
        method_params=method_params,
        baseline=baseline,
        batch_size=explainer.batch_size,
        verbose=explainer.verbose,
    )
    attributor._check_params()
    data = explainer._data
    # What its fit would find out once more.
    vars(attributor).update({k: v for k, v in vars(explainer).items() if k in _COPIED})
    attributor._representation = ConceptRepresentation(
        explainer._representation, explainer._tap, explainer.net_.module_, data.background
    )
    if isinstance(baseline, str):
        check_choice("baseline", baseline, BASELINES)
        zeros = np.zeros_like(data.background[:1])
        named = {"mean": data.mean[None], "zeros": zeros, "background": data.background}[baseline]
        attributor._fitted_baseline = lambda inputs: named
    attributor._fit(np.stack([data.low, data.high]), None)
    if not excitation:
        return attributor._explain(inputs, attributor._units)
    representation, maps = attributor._representation, []
    with representation.session():
        for i in range(0, len(inputs), explainer.batch_size):
            x = representation.tensor(inputs[i : i + explainer.batch_size])
            parts = excitation_maps(explainer._tap, explainer.net_.module_, x)
            maps.append(attributor._to_features(parts))
    return np.concatenate(maps)
