"""Reports on what a model has learned: one file, readable by people."""

from ._concepts import sentence as concepts_sentence
from ._decoding import sentence as decoding_sentence
from ._models import load_model
from ._outputs import check_outputs
from ._pages import import_jinja2
from ._recipes import heartbeats, own_data, own_model
from ._report import RepresentationReport
from ._scaling import ChannelScaler
from ._words import doubts, verdict

__all__ = [
    "ChannelScaler",
    "check_outputs",
    "concepts_sentence",
    "decoding_sentence",
    "doubts",
    "heartbeats",
    "import_jinja2",
    "load_model",
    "own_data",
    "own_model",
    "RepresentationReport",
    "verdict",
]
