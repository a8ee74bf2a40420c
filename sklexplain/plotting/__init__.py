"""Drawings of explanations, as scikit-learn displays."""

from ._anomaly import AnomalyDisplay
from ._attribution import AttributionDisplay
from ._channels import ChannelScales as ChannelScales
from ._concepts import ConceptDisplay
from ._dictionary import DictionaryDisplay
from ._examples import ExampleDisplay
from ._importance import ImportanceDisplay
from ._latent_shift import LatentShiftDisplay
from ._reconstruction import ReconstructionDisplay
from ._samples import as_channels as as_channels
from ._samples import as_drawn as as_drawn
from ._samples import channel_colors as channel_colors
from ._samples import channel_labels as channel_labels
from ._samples import column_names as column_names
from ._samples import draw_image as draw_image
from ._samples import draw_series as draw_series
from ._samples import format_value as format_value
from ._samples import label_time as label_time
from ._samples import numbers_of as numbers_of
from ._samples import rows_of as rows_of
from ._samples import shortened as shortened
from ._score_curve import ScoreCurveDisplay
from ._spectrum import SpectrumDisplay
from ._style import BLUE as BLUE
from ._style import INK as INK
from ._style import MUTED as MUTED
from ._style import ORANGE as ORANGE
from ._style import diverging_colormap as diverging_colormap
from ._style import import_pyplot as import_pyplot
from ._style import ink as ink
from ._style import named_legend as named_legend
from ._style import plain_axes as plain_axes
from ._style import split_axes as split_axes
from ._surrogate import SurrogateDisplay

__all__ = [
    "AnomalyDisplay",
    "AttributionDisplay",
    "ConceptDisplay",
    "DictionaryDisplay",
    "ExampleDisplay",
    "ImportanceDisplay",
    "LatentShiftDisplay",
    "ReconstructionDisplay",
    "ScoreCurveDisplay",
    "SpectrumDisplay",
    "SurrogateDisplay",
]
