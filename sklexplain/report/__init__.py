"""Reports on what a model has learned: one file, readable by people."""

from ._concepts import sentence as concepts_sentence
from ._data import LAYOUTS, InputError, read_data
from ._decoding import sentence as decoding_sentence
from ._models import load_model
from ._recipes import heartbeats, own_data, own_model
from ._report import RepresentationReport
from ._words import verdict

__all__ = [
    "concepts_sentence",
    "decoding_sentence",
    "heartbeats",
    "InputError",
    "LAYOUTS",
    "load_model",
    "own_data",
    "own_model",
    "read_data",
    "RepresentationReport",
    "verdict",
]
