"""What the command line trains and explains: the bundled heartbeats, or the user's data."""

from __future__ import annotations

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Bunch
from skorch.callbacks import Callback
from tqdm import tqdm

from ..datasets import load_ecg5000
from ..nets import Autoencoder
from ..reading import InputError, prepare_series, prepare_table
from ..representation import unwrap
from ..utils import (
    EstimatorLike,
    missing_extra,
)
from ._parts import split_rows
from ._scaling import ChannelScaler

_MAX_TRAIN = 20_000
_HEARTBEAT_EPOCHS = 60
_EPOCHS = 100


class EpochProgress(Callback):
    """A progress bar with one step per epoch, for a skorch net."""

    def on_train_begin(self, net, **kwargs):
        """Start the bar."""
        self.bar_ = tqdm(total=net.max_epochs, desc="          epochs", unit="epoch", leave=False)

    def on_epoch_end(self, net, **kwargs):
        """Move the bar and show the loss."""
        self.bar_.set_postfix(loss=f"{net.history[-1]['train_loss']:.4f}")
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar_.close()
        del self.bar_  # open streams cannot be saved


def heartbeats(seed: int, *, max_epochs: int | None = None, progress: bool = True) -> Bunch:
    """Return what is needed for a report on the bundled heartbeats.

    An autoencoder learns from normal beats only; abnormal beats that it has never seen are
    explained, and the most similar beats are looked up among all beats of the training part.

    Parameters
    ----------
    seed : int
        Seed of the split and the training.
    max_epochs : int or None, default=None
        Most epochs; None for the default.
    progress : bool, default=True
        Show a progress bar.

    Returns
    -------
    recipe : Bunch
        ``estimator``, ``fit`` (arguments of `RepresentationReport.fit`), ``options`` (of its
        constructor).
    """
    beats = load_ecg5000()
    X, y = beats.data, beats.target
    train, held_out = train_test_split(np.arange(len(X)), test_size=0.3, random_state=seed)
    normal = train[y[train] == 1]
    abnormal, unseen = held_out[y[held_out] != 1], held_out[y[held_out] == 1]
    estimator = Autoencoder(
        "conv1d",
        n_components=8,
        hidden_layer_sizes=(16, 32),
        lr=3e-3,
        patience=6,
        max_epochs=max_epochs or _HEARTBEAT_EPOCHS,
        net_params=_net_params(progress),
        random_state=seed,
    )
    notes = [
        "5,000 heartbeats of one patient (ECG5000), each 140 time steps long. The model learned "
        "from normal beats only. This report explains how it represents abnormal beats that it has "
        "never seen: what in them builds the representation, compared with the mean normal beat, "
        "and what in them is abnormal, by other normal beats that it has not seen either.",
    ]
    return Bunch(
        estimator=estimator,
        fit=Bunch(
            X=X[normal],
            y=y[normal],
            X_explain=X[abnormal],
            y_explain=y[abnormal],
            X_corpus=X[train],
            y_corpus=y[train],
            X_calibration=X[unseen],
        ),
        options={
            "title": "What a heartbeat autoencoder has learned",
            "notes": notes,
            "n_examples": 8,
            "target_names": dict(enumerate(beats.target_names.tolist(), start=1)),
        },
        sentence=(
            f"autoencoder for {len(normal):,} normal heartbeats; {len(abnormal):,} abnormal ones "
            "are explained"
        ),
    )


def own_data(
    data: Bunch, name: str, seed: int, *, max_epochs: int | None = None, progress: bool = True
) -> Bunch:
    """Return what is needed for a report on the user's data, with an autoencoder of ours.

    Parameters
    ----------
    data : Bunch
        From `read_data`.
    name : str
        Name of the file, for the title.
    seed : int
        Seed of the split and the training.
    max_epochs : int or None, default=None
        Most epochs; None for the default.
    progress : bool, default=True
        Show a progress bar.

    Returns
    -------
    recipe : Bunch
        As `heartbeats` returns.

    Raises
    ------
    InputError
        If there is nothing to learn from.
    """
    notes = list(data.notes)
    net = {
        "lr": 3e-3,
        "max_epochs": max_epochs or _EPOCHS,
        "net_params": _net_params(progress),
        "random_state": seed,
    }
    options = {"title": f"What an autoencoder has learned about {name}", "notes": notes}
    options["id_name"] = data.id_name
    if data.layout == "table":
        if not hasattr(data.X, "columns"):
            data = _as_frame(data)
        table = prepare_table(data.X)
        notes += table.notes
        fit = split(_with(data, X=table.X), seed, notes)
        estimator = table_pipeline(table, net)
    else:
        data = _as_series(data, name, notes)
        fit = split(data, seed, notes)
        estimator = _array_pipeline(data, net)
        options |= {"time_names": data.times, "channel_names": data.channels}
        options["value_name"] = data.value_name
        each = "each channel by its own" if data.layout.startswith("channels") else "by their"
        notes.append(
            f"The model sees values that are centred and scaled, {each} mean and standard "
            "deviation; all that is drawn here is in the file's units."
        )
    n_explain = len(fit.X_explain)
    return Bunch(
        estimator=estimator,
        fit=fit,
        options=options,
        sentence=f"autoencoder for {len(fit.X):,} samples; {n_explain:,} others are explained",
    )


def _as_series(data, name, notes):
    """Return series and images as arrays, channels first, and the names of times and channels."""
    data = _with(data, value_name=None)
    if hasattr(data.X, "columns"):
        series = prepare_series(data.X, name)
        notes += series.notes
        return _with(data, X=series.X, times=series.times)
    if data.layout == "channels-last":  # the convolutions' order is the other one
        tests = None if data.X_test is None else data.X_test.swapaxes(1, 2)
        data = _with(data, X=data.X.swapaxes(1, 2), X_test=tests, layout="channels-first")
    if data.channels is not None and len(data.channels) == 1:
        data = _with(data, value_name=data.channels[0], channels=None)
    return data


def _array_pipeline(data, net):
    """Return an unfitted Pipeline for series or images, from the file's units on."""
    is_image = data.layout == "images"
    size = int(np.prod(data.X.shape[1:]))
    sizes = {"hidden_layer_sizes": (128, 64) if is_image else (16, 32)}
    n_components = int(np.clip(size // 4, 1, 8))
    module = "mlp" if is_image else "conv1d"
    channel_axis = 0 if data.layout.startswith("channels") else None
    autoencoder = Autoencoder(module, n_components=n_components, **sizes, **net)
    return Pipeline([("scaler", ChannelScaler(channel_axis)), ("autoencoder", autoencoder)])


def own_model(model: EstimatorLike, data: Bunch, name: str, data_name: str, seed: int) -> Bunch:
    """Return what is needed for a report on the user's model and data.

    Parameters
    ----------
    model : estimator
        Fitted.
    data : Bunch
        From `read_data`.
    name : str
        Name of the model's file, for the title.
    data_name : str
        Name of the data's file, for messages.
    seed : int
        Seed of the split.

    Returns
    -------
    recipe : Bunch
        As `heartbeats` returns.

    Raises
    ------
    InputError
        If the data do not have the columns that the model takes.
    """
    notes = list(data.notes)
    X = data.X
    known = getattr(model, "feature_names_in_", None)
    if hasattr(X, "columns"):
        if known is not None:
            missing = [str(c) for c in known if c not in X.columns]
            if missing:
                raise InputError(f"the model takes columns that the data do not have: {missing}.")
            X = X[list(known)]
        elif data.layout == "series":
            series = prepare_series(X, data_name)
            notes += series.notes
            X, data = series.X, _with(data, times=series.times)
        else:
            X = _numbers(X)
    expected = getattr(model, "input_shape_", None)
    if expected is None and hasattr(model, "n_features_in_"):
        expected = (model.n_features_in_, *X.shape[2:])
    if expected is not None and tuple(X.shape[1:]) != tuple(expected):
        raise InputError(
            f"the model takes samples of shape {tuple(expected)}, but the data have samples of "
            f"shape {tuple(X.shape[1:])}: give it the data it was fitted on, with --target for a "
            "column that it was not given."
        )
    fit = split(_with(data, X=X), seed, notes)
    options = {"title": f"What {name} has learned", "notes": notes, "id_name": data.id_name}
    options |= {"time_names": data.times, "channel_names": data.channels}
    if data.layout == "series" or data.layout.startswith("channels"):
        options["kind"] = "series"
    axis = {"channels-first": 0, "channels-last": 1, "images": 0}
    if data.layout in axis:
        options["channel_axis"] = axis[data.layout]
    sentence = (
        f"{type(unwrap(model)).__name__} from {name}; {len(fit.X_explain):,} samples explained"
    )
    return Bunch(estimator=model, fit=fit, options=options, sentence=sentence)


def table_pipeline(table, net):
    """Return an unfitted Pipeline for a table: scaled numbers, one-hot categories, autoencoder.

    Parameters
    ----------
    table : Bunch
        From `prepare_table`.
    net : dict
        Parameters of the autoencoder.

    Returns
    -------
    pipeline : Pipeline
    """
    numeric = [SimpleImputer(strategy="median")] if table.has_missing else []
    numeric = make_pipeline(*numeric, StandardScaler())
    n_components = int(np.clip(len(table.X.columns) // 2, 1, 8))
    autoencoder = Autoencoder("mlp", n_components=n_components, hidden_layer_sizes=(64, 32), **net)
    if not table.categorical:
        return Pipeline([*numeric.steps, ("autoencoder", autoencoder)])
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=20)
    one_hot.set_params(sparse_output=False)
    columns = ColumnTransformer(
        [("numeric", numeric, table.numeric), ("categorical", one_hot, table.categorical)]
    )
    return Pipeline([("columns", columns), ("autoencoder", autoencoder)])


def split(data, seed, notes):
    """Split data into what is learned from and what is explained.

    Parameters
    ----------
    data : Bunch
        ``X``, ``y``, ``X_test``, ``y_test``, ``ids`` and ``groups``.
    seed : int
        Seed of the split.
    notes : list of str
        Gets a note if only a part of the data is used.

    Returns
    -------
    fit : Bunch
        Arguments of `RepresentationReport.fit`.
    """
    X, y, ids = data.X, data.y, np.asarray(data.ids, dtype=object)
    train = np.arange(len(X))
    X_explain, y_explain, ids_explain = data.X_test, data.y_test, None
    if X_explain is None:
        train, held_out = split_rows(len(X), 0.2, seed, data.groups)
        X_explain, y_explain = _rows(X, held_out), None if y is None else y[held_out]
        ids_explain = ids[held_out]
    else:
        ids_explain = np.array([f"test {i}" for i in range(1, len(X_explain) + 1)], dtype=object)
    if len(train) > _MAX_TRAIN:
        notes.append(
            f"Of {len(train):,} samples to learn from, {_MAX_TRAIN:,} drawn at random were used."
        )
        train = np.random.RandomState(seed).permutation(train)[:_MAX_TRAIN]
    train = np.sort(train)
    return Bunch(
        X=_rows(X, train),
        y=None if y is None else y[train],
        ids=ids[train],
        X_explain=X_explain,
        y_explain=y_explain,
        ids_explain=ids_explain,
    )


def _rows(X, positions):
    return X.iloc[positions].reset_index(drop=True) if hasattr(X, "iloc") else X[positions]


def _with(data, **changes):
    """Return data with other contents."""
    return Bunch(**{**data, **changes})


def _net_params(progress):
    return {"callbacks": [("progress", EpochProgress())]} if progress else None


def _as_frame(data):
    """Give the columns of an array names, so that unusable ones can be left out."""
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(missing_extra("pandas", "Reading tables")) from error
    names = [f"x{i}" for i in range(data.X.shape[1])]
    tests = None if data.X_test is None else pd.DataFrame(data.X_test, columns=names)
    return _with(data, X=pd.DataFrame(data.X, columns=names), X_test=tests)


def _numbers(frame):
    """Return a table of numbers as an array."""
    other = [name for name in frame.columns if frame[name].dtype.kind not in "biuf"]
    if other:
        raise InputError(
            f"columns {other} hold no numbers; leave them out of the file, or name one that holds "
            "labels with --target."
        )
    return frame.to_numpy(dtype=np.float64)
