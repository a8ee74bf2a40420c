"""Explanations of learned representations as scikit-learn estimators."""

import importlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .anomalies import AnomalyAttributor
    from .attribution import EmbeddingAttributor, LabelFreeAttributor, RelevanceMasker
    from .concepts import SparseDictionary, SRAEExplainer
    from .decoding import ClaDecExplainer
    from .examples import DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance
    from .scores import NoiseScorer, VarianceScorer
    from .surrogates import LatentSurrogate

__version__ = "0.2.0"

__all__ = [
    "AnomalyAttributor",
    "ClaDecExplainer",
    "DKNNImportance",
    "EmbeddingAttributor",
    "InfluenceImportance",
    "LabelFreeAttributor",
    "LatentSurrogate",
    "NoiseScorer",
    "RelevanceMasker",
    "SRAEExplainer",
    "SimplExImportance",
    "SparseDictionary",
    "TracInImportance",
    "VarianceScorer",
    "__version__",
]

# Where the explainers are: a room is imported when something in it is asked for, as all of them
# together take a third of the time that torch and scikit-learn take.
_ROOMS = {
    "anomalies": ("AnomalyAttributor",),
    "attribution": ("EmbeddingAttributor", "LabelFreeAttributor", "RelevanceMasker"),
    "concepts": ("SRAEExplainer", "SparseDictionary"),
    "decoding": ("ClaDecExplainer",),
    "examples": ("DKNNImportance", "InfluenceImportance", "SimplExImportance", "TracInImportance"),
    "scores": ("NoiseScorer", "VarianceScorer"),
    "surrogates": ("LatentSurrogate",),
}
# What could be had as an attribute, without an import, when all rooms were imported at once.
_MODULES = (
    *_ROOMS,
    *("base", "base_attributor", "datasets", "exceptions", "explaining", "extending", "gradients"),
    *("layers",),
    *("metrics", "nets", "plotting", "reading", "report", "representation", "samples", "testing"),
    *("training", "utils"),
)
# Threads that import modules which import each other may be handed some that are half done.
_ONE_AT_A_TIME = threading.RLock()


def __getattr__(name):
    """Import a room of the library, or a class from its room, when it is first asked for."""
    if name in _MODULES:
        return _imported(name)
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_imported(room), name)
    return found


def _imported(room):
    with _ONE_AT_A_TIME:
        return importlib.import_module(f".{room}", __name__)


def __dir__():
    """List what can be had, imported or not."""
    return sorted({*globals(), *__all__, *_MODULES})
