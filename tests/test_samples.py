"""What one sample is, decided once in fit, and everybody who asks."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from sklearn.base import clone
from torch import nn

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    LabelFreeAttributor,
    SimplExImportance,
    SparseDictionary,
    SRAEExplainer,
)
from sklexplain.exceptions import DataConversionWarning
from sklexplain.nets import Autoencoder
from sklexplain.plotting import (
    AttributionDisplay,
    ConceptDisplay,
    DictionaryDisplay,
    ExampleDisplay,
    ReconstructionDisplay,
)
from sklexplain.samples import Sample, sample_of

# One epoch is enough to see what shape things have.
pytestmark = pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")


class Around(nn.Module):
    """A network with something in front of it."""

    def __init__(self, before, *layers):
        super().__init__()
        self.before = before
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        z = self.layers(self.before(x))
        return z[0].flatten(1) if isinstance(z, tuple) else z.flatten(1)


class TimeFirst(nn.Module):
    """A recurrent layer that takes (time, n, channels)."""

    def __init__(self, n_channels, cell=nn.GRU):
        super().__init__()
        self.rnn = cell(n_channels, 4)

    def forward(self, x):
        return self.rnn(x.transpose(0, 1))[0][-1]


class Attentive(nn.Module):
    """A Transformer right on the samples, which have a position added to them."""

    def __init__(self, n_steps, n_channels):
        super().__init__()
        self.position = nn.Parameter(torch.randn(n_steps, n_channels))
        self.block = nn.TransformerEncoderLayer(n_channels, 1, 8, batch_first=True)

    def forward(self, x):
        return self.block(x + self.position).mean(dim=1)


def normal(*shape):
    return np.random.RandomState(0).normal(size=shape).astype(np.float32)


def seen(net, shape, n=7):
    """The sample as a network tells it."""
    torch.manual_seed(0)
    net = net()
    return sample_of(LabelFreeAttributor(net, method="saliency").fit(normal(n, *shape)))


def same(x):
    return x


def turned(x):
    return x.transpose(1, 2)


def scaled(x):
    return 3 * x + 2


def scaled_and_turned(x):
    return (0.5 * x - 1).transpose(1, 2)


def flat(n_features):
    return nn.Sequential(nn.Flatten(), nn.Linear(n_features, 2))


AXES = [
    ("conv1d", lambda: Around(same, nn.Conv1d(3, 2, 3)), (3, 20), 0),
    ("conv1d of one channel", lambda: Around(same, nn.Conv1d(1, 2, 3)), (1, 20), 0),
    ("transposing conv1d", lambda: Around(turned, nn.Conv1d(3, 2, 3)), (20, 3), 1),
    ("norm, then conv1d", lambda: Around(same, nn.BatchNorm1d(3), nn.Conv1d(3, 2, 3)), (3, 20), 0),
    ("conv1d of scaled", lambda: Around(scaled, nn.Conv1d(3, 2, 3)), (3, 20), 0),
    ("lstm", lambda: Around(same, nn.LSTM(3, 4, batch_first=True)), (20, 3), 1),
    ("gru", lambda: Around(same, nn.GRU(3, 4, batch_first=True)), (20, 3), 1),
    ("transposing lstm", lambda: Around(turned, nn.LSTM(3, 4, batch_first=True)), (3, 20), 0),
    ("linear on every step", lambda: Around(same, nn.Linear(3, 2), nn.Flatten()), (20, 3), 1),
    ("time first", lambda: TimeFirst(3), (20, 3), 1),
    ("transformer", lambda: Attentive(20, 4), (20, 4), 1),
    # Square samples: sizes tell nothing, numbers do.
    ("square conv1d", lambda: Around(same, nn.Conv1d(5, 2, 3)), (5, 5), 0),
    ("square transposing", lambda: Around(turned, nn.Conv1d(5, 2, 3)), (5, 5), 1),
    ("square scaled", lambda: Around(scaled, nn.Conv1d(5, 2, 3)), (5, 5), 0),
    ("square reversed", lambda: Around(lambda x: -x, nn.Conv1d(5, 2, 3)), (5, 5), 0),
    ("square sizes", lambda: Around(torch.abs, nn.Conv1d(5, 2, 3)), (5, 5), 0),
    ("square turned", lambda: Around(scaled_and_turned, nn.Conv1d(5, 2, 3)), (5, 5), 1),
    ("square lstm", lambda: Around(same, nn.LSTM(5, 4, batch_first=True)), (5, 5), 1),
    ("square turned lstm", lambda: Around(turned, nn.LSTM(5, 4, batch_first=True)), (5, 5), 0),
    ("square time first", lambda: TimeFirst(5), (5, 5), 1),
    ("square transformer", lambda: Attentive(5, 5), (5, 5), 1),
    # As many steps as samples are probed.
    ("three steps, time first", lambda: TimeFirst(4), (3, 4), 1),
    ("three channels and steps", lambda: TimeFirst(3), (3, 3), 1),
    # Nothing tells.
    ("flat", lambda: flat(60), (3, 20), None),
    ("norm of everything", lambda: nn.Sequential(nn.LayerNorm([3, 20]), flat(60)), (3, 20), None),
    ("flat images", lambda: flat(784), (28, 28), None),
    ("conv2d of grey", lambda: Around(lambda x: x[:, None], nn.Conv2d(1, 2, 3)), (9, 9), None),
    ("images", lambda: Around(same, nn.Conv2d(3, 2, 3)), (3, 8, 9), 0),
    ("flat colours", lambda: flat(216), (3, 8, 9), 0),
    (
        "channels last",
        lambda: Around(lambda x: x.permute(0, 3, 1, 2), nn.Conv2d(3, 2, 3)),
        (8, 9, 3),
        2,
    ),
    ("volumes", lambda: Around(same, nn.Conv3d(1, 2, 3)), (1, 4, 5, 6), None),
]


@pytest.mark.parametrize(("name", "net", "shape", "axis"), AXES, ids=[row[0] for row in AXES])
@pytest.mark.parametrize("n", [3, 5, 7])
def test_axis_of_channels_is_that_of_the_layers(name, net, shape, axis, n):
    sample = seen(net, shape, n)
    assert (sample.channel_axis, sample.shape) == (axis, shape)
    series = len(shape) == 2 and axis is not None
    assert sample.kind == ("series" if series else "image")


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [("conv1d", (3, 24), 0), ("lstm", (24, 3), 1), ("mlp", (3, 8), None)],
)
def test_autoencoders_of_the_library(module, shape, axis):
    net = Autoencoder(module, n_components=2, max_epochs=1, random_state=0)
    X = normal(20, *shape)
    attributor = LabelFreeAttributor(net.fit(X), method="saliency").fit(X)
    assert sample_of(attributor).channel_axis == axis


def test_series_in_a_table_are_told_by_their_layers():
    net = Around(lambda x: x[:, None], nn.Conv1d(1, 2, 3))
    assert seen(lambda: net, (20,)) == Sample((20,), "series")
    assert seen(lambda: flat(20), (20,)) == Sample((20,), "table")


def test_a_network_without_axes_has_no_channels_unless_they_are_named():
    X = normal(60, 3, 20)
    net = Autoencoder("mlp", n_components=2, max_epochs=2, random_state=0).fit(X)
    options = {"method": "saliency", "random_state": 0}
    auto = LabelFreeAttributor(net, **options).fit(X)
    assert auto.get_feature_names_out()[-1] == "y2_x19"
    assert auto.latent_shift(X).n_masked[-1] == 60
    named = LabelFreeAttributor(net, channel_axis=0, **options).fit(X)
    assert named.get_feature_names_out()[-1] == "ch2_t19"
    assert named.latent_shift(X).n_masked[-1] == 20  # time steps, all channels of each together
    assert sample_of(named).kind == "series"
    assert named.score(X) != auto.score(X)
    last = LabelFreeAttributor(net, channel_axis=-1, **options).fit(X)
    assert last.get_feature_names_out()[-1] == "ch19_t2"


@pytest.mark.parametrize("axis", [0, 1, None])
def test_score_depends_on_the_axis_not_on_how_a_network_is_written(axis):
    X = normal(30, 3, 20)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(60, 8), nn.Tanh(), nn.Linear(8, 3))
    identity = nn.Conv1d(3, 3, 1)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(3)[:, :, None])
        identity.bias.zero_()
    behind = nn.Sequential(identity, *plain)
    scores = [
        LabelFreeAttributor(net, channel_axis=axis, random_state=0).fit(X).score(X)
        for net in (plain, behind)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_images_without_channels():
    X = normal(12, 28, 28)
    attributor = LabelFreeAttributor(flat(784), method="saliency").fit(X)
    assert sample_of(attributor) == Sample((28, 28), "image")
    assert attributor.get_feature_names_out()[-1] == "y27_x27"
    assert attributor.latent_shift(X, n_random=1).n_masked[-1] == 784
    assert AttributionDisplay.from_estimator(attributor, X).kind == "image"


# -- the parameter -------------------------------------------------------------------------------

QUICK = {
    LabelFreeAttributor: {"method": "saliency"},
    SRAEExplainer: {
        "n_concepts": 3,
        "max_epochs": 1,
        "hidden_layer_sizes": (4,),
        "validation_split": None,
    },
    ClaDecExplainer: {"max_epochs": 1, "validation_split": None, "reference": None},
    SparseDictionary: {"n_concepts": 3, "k": 1, "max_epochs": 1},
    SimplExImportance: {},
}
DRAWN = {
    LabelFreeAttributor: (AttributionDisplay, {}),
    SRAEExplainer: (ConceptDisplay, {"method": "saliency"}),
    SparseDictionary: (DictionaryDisplay, {"method": "saliency", "n_examples": 2}),
    ClaDecExplainer: (ReconstructionDisplay, {}),
    SimplExImportance: (ExampleDisplay, {"n_examples": 2}),
}


@pytest.mark.parametrize("explainer_class", QUICK)
def test_every_estimator_that_shows_samples_has_the_parameter(explainer_class):
    X = normal(20, 3, 10)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(30, 4), nn.ReLU(), nn.Linear(4, 2))
    explainer = explainer_class(net, random_state=0, **QUICK[explainer_class])
    assert explainer.channel_axis == "auto"
    assert "channel_axis : " in explainer_class.__doc__
    pyplot.close("all")
    display_class, options = DRAWN[explainer_class]
    if display_class is ExampleDisplay:
        options = options | {"X_train": X}
    for axis, kind, expected in ((0, "series", 0), (-1, "series", 1), (None, "image", None)):
        fitted = clone(explainer).set_params(channel_axis=axis).fit(X)
        assert (sample_of(fitted).kind, sample_of(fitted).channel_axis) == (kind, expected)
        display = display_class.from_estimator(fitted, X, **options)
        assert (display.kind, display.channel_axis) == (kind, expected)
    # Displays have the explainer's axis unless they are told another.
    display = display_class.from_estimator(fitted, X, channel_axis=0, **options)
    assert (display.kind, display.channel_axis) == ("series", 0)
    display = display_class.from_estimator(fitted, X, kind="series", channel_axis=1, **options)
    assert (display.kind, display.channel_axis) == ("series", 1)
    for axis, error in ((2, ValueError), (-3, ValueError), ("last", ValueError), (0.5, TypeError)):
        with pytest.raises(error, match="channel_axis"):
            clone(explainer).set_params(channel_axis=axis).fit(X)
        with pytest.raises(error, match="channel_axis"):
            display_class.from_estimator(fitted, X, channel_axis=axis, **options)


def test_set_params_counts_from_the_next_fit_on():
    X = normal(20, 3, 10)
    attributor = LabelFreeAttributor(flat(30), method="saliency").fit(X)
    attributor.set_params(channel_axis=0)
    assert attributor.get_feature_names_out()[-1] == "y2_x9"
    assert attributor.fit(X).get_feature_names_out()[-1] == "ch2_t9"


def test_decoders_are_built_for_the_axis():
    def kinds(shape, axis):
        X = normal(12, *shape)
        net = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 4), nn.ReLU(), nn.Linear(4, 2))
        explainer = ClaDecExplainer(net, channel_axis=axis, **QUICK[ClaDecExplainer]).fit(X)
        assert explainer.transform(X).shape == X.shape
        layers = list(explainer.decoder_.modules())
        convolutions = [m for m in layers if isinstance(m, nn.modules.conv._ConvNd)]
        units = explainer.decoder_[-1].center.shape
        return (type(convolutions[-1]), convolutions[-1].out_channels, tuple(units))

    assert kinds((3, 20), "auto") == (nn.ConvTranspose2d, 1, (1, 1))
    assert kinds((3, 20), 0) == (nn.ConvTranspose1d, 3, (3, 1))
    assert kinds((20, 3), 1) == (nn.ConvTranspose1d, 3, (1, 3))
    assert kinds((3, 8, 8), "auto") == (nn.ConvTranspose2d, 3, (3, 1, 1))
    assert kinds((8, 8, 3), 2) == (nn.ConvTranspose2d, 3, (1, 1, 3))


def test_names_of_rebuilt_entries_follow_the_axis():
    X = normal(12, 3, 20)
    options = {"reference": None, "validation_split": None, "max_epochs": 1}
    net = nn.Sequential(flat(60), nn.ReLU(), nn.Linear(2, 2))
    explainer = ClaDecExplainer(net, channel_axis=0, **options).fit(X)
    assert explainer.get_feature_names_out()[-1] == "ch2_t19"


# -- what a sample is called ---------------------------------------------------------------------


def test_names():
    def last(*args):
        return Sample(*args).names()[-1]

    assert last((4,), "table") == "x3"
    assert last((2,), "table", None, ("age", "mass")) == "mass"
    assert last((3, 20), "series", 0) == "ch2_t19"
    assert last((20, 3), "series", 1) == "ch2_t19"
    assert last((3, 20), "image") == "y2_x19"
    assert last((3, 4, 5), "image", 0) == "ch2_y3_x4"
    assert last((4, 5, 3), "image", 2) == "ch2_y3_x4"
    assert last((3, 4, 5), "image") == "f2_3_4"


def test_seen_as():
    sample = Sample((3, 20), "image")
    assert sample.seen_as() == sample
    assert sample.seen_as(channel_axis=0) == Sample((3, 20), "series", 0)
    assert sample.seen_as("series", -1) == Sample((3, 20), "series", 1)
    assert Sample((3, 20), "series", 0).seen_as(channel_axis=None) == sample
    assert Sample((20,), "series").seen_as() == Sample((20,), "series")
    assert Sample((20,), "series").seen_as("table") == Sample((20,), "table")
    with pytest.raises(ValueError, match="give channel_axis=0 if it is"):
        sample.seen_as("series")
    with pytest.raises(ValueError, match="cannot be drawn"):
        Sample((1, 2, 3, 4), "image").seen_as()


# -- other shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("shape", [(2, 20), (20, 3), (3, 21), (60,), (1, 3, 20)])
def test_other_sizes_of_axes_are_called_by_their_shape(shape, as_list):
    X = normal(8, 3, 20)
    net = Autoencoder("mlp", n_components=2, max_epochs=1, random_state=0).fit(X)
    other = normal(8, *shape)
    other = other.tolist() if as_list else other
    message = (
        rf"X has shape \(n, {', '.join(map(str, shape))}\), but \w+ was fitted on \(n, 3, 20\)"
    )
    for estimator in (LabelFreeAttributor(net).fit(X), DKNNImportance(net).fit(X), net):
        with pytest.raises(ValueError, match=message) as caught:
            estimator.transform(other)
        assert "features" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        LabelFreeAttributor(net).fit(other)


def test_tables_of_another_width_are_called_as_scikit_learn_does():
    attributor = LabelFreeAttributor(flat(4)).fit(normal(8, 4))
    with pytest.raises(
        ValueError, match="X has 3 features, but LabelFreeAttributor is expecting 4"
    ):
        attributor.transform(normal(8, 3))


def test_positions_that_lose_their_variation_are_no_columns():
    X = normal(8, 3, 20).astype(np.float64)
    X[:, 1, 5] += 1e9
    with pytest.warns(DataConversionWarning, match=r"Position \(1, 5\) of the sample varies"):
        LabelFreeAttributor(flat(60), method="saliency").fit(X)
