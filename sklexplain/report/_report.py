"""Computing a report; it is written in _html."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import joblib
import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..attribution import LabelFreeAttributor
from ..examples import DKNNImportance
from ..explaining import BASELINES, METHODS, warn_of_close
from ..representation import is_fitted
from ..samples import KINDS, sample_of
from ..utils import (
    ARRAY,
    AXIS,
    CALLABLE,
    FLAG,
    MAPPING,
    NONE,
    SEED,
    VERBOSE,
    Baseline,
    BatchSize,
    ChannelAxis,
    Choice,
    Device,
    DeviceLike,
    Entries,
    Integer,
    Is,
    Kind,
    ModelLike,
    Names,
    Number,
    Params,
    PathLike,
    RandomState,
    Text,
    check_params,
    draw_seed,
    is_sequence,
    write_file,
)
from . import _compute
from ._anomalies import find_anomalies, is_bare, tells_anomalies
from ._clusters import contrast_clusters
from ._concepts import find_concepts
from ._decoding import decode_layer
from ._html import render
from ._numbers import write_numbers
from ._parts import split_parts
from ._predictions import predictions

_FEW_COLUMNS = 10  # all of whose coalitions are asked for
_MANY_OUTPUTS = 20


class RepresentationReport(BaseEstimator):
    """Report on what a model has learned to represent: one HTML file for people to read.

    The report shows which time steps, columns or pixels build the representation of a number of
    samples (`LabelFreeAttributor`), which known samples are represented most alike
    (`DKNNImportance`), and tests both against chance, so that the reader knows how far to trust
    them. Of classifiers and regressors it also shows the concepts that their output is made of
    (`SRAEExplainer`), and what a layer keeps of its input (`ClaDecExplainer`). The file needs no
    network and no JavaScript.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        The model. A fitted one is explained as it is; of an unfitted one a clone is fitted.
    layer : str or None, default=None
        Which representation, see `LabelFreeAttributor`.
    method : str, default="auto"
        How features are attributed, see `LabelFreeAttributor`. "auto": "integrated_gradients" where
        gradients pass; else "kernel_shap" for at most ten columns, and "shapley_sampling".
    method_params : dict or None, default=None
        Parameters of the method.
    baseline : {"mean", "zeros", "background"}, array-like or callable, default="mean"
        What a sample is compared with.
    center : bool, default=False
        Make attributions independent of the latent origin, see `LabelFreeAttributor`.
    anomalies : bool or "auto", default="auto"
        Whether to say what in samples is abnormal (`AnomalyAttributor`). "auto": if the model
        reconstructs samples, or is a detector of outliers.
    clusters : bool, default=True
        Whether to say what makes each label, or each cluster of a model that clusters, unlike the
        others (`LabelFreeAttributor` with a ``corpus``).
    concepts : bool or "auto", default="auto"
        Whether to learn concepts that the model's output is made of (`SRAEExplainer`), from at
        most 5000 samples. "auto": if it is a classifier or a regressor; a bare module tells
        neither.
    concept_params : dict or None, default=None
        Parameters of that explainer, such as ``{"n_concepts": 3, "target": 0}``. Without it there
        are as many concepts as classes, but at least 5 and at most 10, and
        ``hidden_layer_sizes`` is (100,).
    decoding : bool or "auto", default="auto"
        Whether to show what a layer keeps of its input (`ClaDecExplainer`), as for `concepts`; from
        at most 5000 rows of a table, or 800 series or images.
    decoding_params : dict or None, default=None
        Parameters of that explainer, such as ``{"layer": "conv1", "max_epochs": 100}``. Without it
        `max_epochs` is 500 for tables, 40 for series and 30 for images (``lr`` is 3e-3 for these
        two), and the decoder is ``"small"``.
    n_examples : int, default=6
        Number of samples shown one by one; from every class in turn if labels are known.
    n_neighbors : int, default=5
        Number of most similar known samples shown with each.
    n_explained : int, default=200
        Number of samples, drawn at random, that the scores and overall importances are computed on.
    max_corpus : int, default=5000
        Most known samples that are searched; a random part of a larger corpus.
    test_size : float, default=0.2
        Share of X that is set aside and explained, if `fit` is given no X_explain.
    kind : {"table", "series", "image"} or None, default=None
        What a sample is. None: what the network's layers and the number of axes tell.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels, also for all the explainers. ``"auto"``: as
        the network's own layers take it; None: there are none.
    target_names : dict or None, default=None
        Readable names of labels.
    time_names, channel_names : sequence of str or None, default=None
        Names of a series' time steps and channels; None: numbers.
    value_name : str or None, default=None
        What the values of a series or image are, and their unit, as in "mV".
    id_name : str or None, default=None
        What the names of samples are that `fit` is given, as in "patient".
    title : str, default="What the model has learned"
        Title of the report.
    notes : sequence of str, default=()
        Remarks on the data, shown in the summary.
    batch_size : int or "auto", default="auto"
        Most samples in the network at once. "auto": 1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Determines everything random.
    verbose : int, default=0
        1 prints a line a step, with the time it took.

    Attributes
    ----------
    attributor_ : LabelFreeAttributor
        Fitted on the training samples.
    example_importance_ : DKNNImportance
        Fitted on the corpus.
    estimator_ : nn.Module or estimator
        The model that is explained.
    latent_shift_ : Bunch
        How the attributions compare with chance, see `sklexplain.metrics.latent_shift_curve`.
    attributions_ : ndarray of shape (n_explained, ...)
        Attributions of the samples that the scores are computed on.
    standard_errors_ : ndarray of the shape of ``attributions_`` or None
        Their standard errors, of a method that draws at random.
    explained_ : ndarray of shape (n_explained,)
        Positions of these samples in X_explain, or in X if there was no X_explain.
    ids_ : ndarray of str of shape (n_explained,)
        Their names.
    feature_importances_ : ndarray of a sample's shape
        Mean absolute attribution over them.
    label_agreement_ : Bunch or None
        How often the most and the least similar known samples have the sample's label, and chance;
        None without labels, and where they are values (of a regressor, or with fractions).
    reconstruction_ : Bunch or None
        R² of reconstruction of training and explained samples; None if the model has none.
    method_ : str
        How features were attributed.
    predictions_ : Bunch or None
        Of a classifier or regressor: what it ``said`` of the explained samples, its ``scores``,
        ``accuracy`` and ``balanced`` accuracy, or ``r2``.
    anomalies_ : Bunch or None
        ``explainer``, a fitted `AnomalyAttributor`, ``p`` of the explained samples, ``share``, how
        many of them are at most 0.05, ``n_calibration`` and whether these are the explained
        samples themselves (``own``), ``classes``, the share by label, and ``maps`` and
        ``references`` of the shown ones; or the ``reason`` why there is none. None if not asked
        for.
    clusters_ : Bunch or None
        ``classes``, with ``label``, ``n``, mean ``attributions`` and the typical ``sample`` of
        each, and whether the model has ``clustered`` them; or the ``reason`` why there is none.
        None without labels or clusters.
    concepts_ : Bunch or None
        ``explainer``, a fitted `SRAEExplainer`, ``faithfulness`` and ``reconstruction`` on the
        explained samples, ``correlation`` of concepts, ``outputs``, their names, ``moves``, by how
        much a concept's standard deviation moves each, ``maps``, mean absolute attributions, and
        ``shown``, those of single samples; or the ``reason`` why there is none. None if not asked
        for.
    decoding_ : Bunch or None
        ``explainer``, a fitted `ClaDecExplainer`, ``agreement``, ``balanced`` (the mean over
        classes), ``kept`` and ``kept_reference`` (None without one), shares of the explained
        samples' variation, and ``losses``; or the ``reason`` why there is none.
    timings_ : dict
        Seconds of each step.

    See Also
    --------
    sklexplain.plotting : The report's figures, one by one.
    sklexplain.LabelFreeAttributor : The maps.
    sklexplain.DKNNImportance : The examples.
    sklexplain.AnomalyAttributor : What is abnormal.

    Notes
    -----
    Cost: `fit` explains a few samples by every part; of an autoencoder of a small table it ran 35
    rows a sample through the network, beside the training of concepts and decoders.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.report import RepresentationReport
    >>> X, y, _ = make_relevant_columns(random_state=0)
    >>> report = RepresentationReport(PCA(n_components=2), random_state=0).fit(X, y)
    >>> bool(report.latent_shift_.area_ratio > 1)
    True
    >>> with TemporaryDirectory() as folder:
    ...     path = report.to_html(Path(folder) / "report.html")
    ...     path.stat().st_size < 3_000_000
    True
    """

    _parameter_constraints = {
        "layer": [Text("the name of a layer"), NONE],
        "method": [Choice("auto", table=METHODS)],
        "method_params": [MAPPING, NONE],
        "baseline": [Choice(*BASELINES), CALLABLE, ARRAY, MAPPING],
        "center": [FLAG],
        "anomalies": [FLAG, Choice("auto")],
        "clusters": [FLAG],
        "concepts": [FLAG, Choice("auto")],
        "concept_params": [MAPPING, NONE],
        "decoding": [FLAG, Choice("auto")],
        "decoding_params": [MAPPING, NONE],
        "n_examples": [Integer()],
        "n_neighbors": [Integer()],
        "n_explained": [Integer()],
        "max_corpus": [Integer()],
        "test_size": [Integer(), Number(above=0, below=1)],
        "kind": [Choice(*KINDS), NONE],
        "channel_axis": [Choice("auto"), AXIS, NONE],
        "target_names": [MAPPING, NONE],
        "time_names": [Is("a sequence of names", is_sequence), NONE],
        "channel_names": [Is("a sequence of names", is_sequence), NONE],
        "value_name": [Text(), NONE],
        "id_name": [Text(), NONE],
        "title": [Text()],
        "notes": [Entries("a sequence of remarks", Text())],
        "batch_size": [Integer(), Choice("auto")],
        "device": [Device(), NONE],
        "random_state": [SEED],
        "verbose": [VERBOSE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        method: str = "auto",
        method_params: Params = None,
        baseline: Baseline = "mean",
        center: bool = False,
        anomalies: bool | Literal["auto"] = "auto",
        clusters: bool = True,
        concepts: bool | Literal["auto"] = "auto",
        concept_params: Params = None,
        decoding: bool | Literal["auto"] = "auto",
        decoding_params: Params = None,
        n_examples: int = 6,
        n_neighbors: int = 5,
        n_explained: int = 200,
        max_corpus: int = 5000,
        test_size: int | float = 0.2,
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        target_names: dict[str, Any] | None = None,
        time_names: Names | None = None,
        channel_names: Names | None = None,
        value_name: str | None = None,
        id_name: str | None = None,
        title: str = "What the model has learned",
        notes: Sequence[str] = (),
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.method = method
        self.method_params = method_params
        self.baseline = baseline
        self.center = center
        self.anomalies = anomalies
        self.clusters = clusters
        self.concepts = concepts
        self.concept_params = concept_params
        self.decoding = decoding
        self.decoding_params = decoding_params
        self.n_examples = n_examples
        self.n_neighbors = n_neighbors
        self.n_explained = n_explained
        self.max_corpus = max_corpus
        self.test_size = test_size
        self.kind = kind
        self.channel_axis = channel_axis
        self.target_names = target_names
        self.time_names = time_names
        self.channel_names = channel_names
        self.value_name = value_name
        self.id_name = id_name
        self.title = title
        self.notes = notes
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        ids: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        X_explain: ArrayLike | None = None,
        y_explain: ArrayLike | None = None,
        ids_explain: ArrayLike | None = None,
        X_corpus: ArrayLike | None = None,
        y_corpus: ArrayLike | None = None,
        ids_corpus: ArrayLike | None = None,
        X_calibration: ArrayLike | None = None,
    ) -> Self:
        """Train the model if it is not, explain samples, and grade the explanations.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            What the model is trained on, or was: baselines and masks come from here.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels of X. They train an unfitted model that needs them; otherwise they only grade.
            Several columns grade nothing.
        ids : array-like of shape (n_samples,), default=None
            Names of the samples of X, by which they can be found again: in the file, the hospital.
            None: the index of a DataFrame, or positions in X.
        groups : array-like of shape (n_samples,), default=None
            Which samples of X belong together, as those of one patient do: where a part of X is set
            aside, all of a group are on the same side.
        X_explain : array-like, DataFrame or tensor of shape (n_explain, ...), default=None
            Samples to explain. None: a random part of X, on which nothing is then trained here.
        y_explain : array-like of shape (n_explain,), default=None
            Their labels, for grading only.
        ids_explain : array-like of shape (n_explain,), default=None
            Their names.
        X_corpus : array-like, DataFrame or tensor of shape (n_corpus, ...), default=None
            Known samples among which the most similar ones are looked up. None: X.
        y_corpus : array-like of shape (n_corpus,), default=None
            Their labels, for grading only.
        ids_corpus : array-like of shape (n_corpus,), default=None
            Their names.
        X_calibration : array-like, DataFrame or tensor of shape (n_calibration, ...), default=None
            Normal samples that the model is *not* trained on, nor was, with which p-values of
            abnormality compare. None: those that are explained are compared with each other.

        Returns
        -------
        self : RepresentationReport
            The fitted report.

        Raises
        ------
        ValueError
            If samples and labels do not fit together, or no model can take them.
        TypeError
            If the estimator is no model, or the method needs gradients that it does not have.
        """
        check_params(self)
        self._clock: dict[str, float] = {}
        self._remarks: list[str] = []
        self.seed_ = draw_seed(self.random_state)
        explained = (X_explain, y_explain, ids_explain)
        corpus = (X_corpus, y_corpus, ids_corpus)
        data = split_parts((X, y, ids), explained, corpus, self.test_size, self.seed_, groups)
        rng = np.random.RandomState(self.seed_)
        n_explained = min(self.n_explained, len(data.X_explain))
        chosen = np.sort(rng.permutation(len(data.X_explain))[:n_explained])
        self._was_fitted = _is_model_fitted(self.estimator)
        with self._step("resolve the model" if self._was_fitted else "train the model"):
            self._fit_attributor(data.X, data.y)
        self._sample = sample_of(self.attributor_).seen_as(self.kind)
        X_explain = _compute.take(data.X_explain, chosen)
        y_explain = None if data.y_explain is None else data.y_explain[chosen]
        self.explained_ = data.positions[chosen]
        self.ids_ = data.ids_explain[chosen]
        with self._step(f"attribute {n_explained} samples ({self.method_})"):
            self._attribute(X_explain)
            self.feature_importances_ = np.abs(self.attributions_).mean(axis=0)
            self._predict(X_explain, y_explain)
        with self._step("compare with masking at random"):
            self.latent_shift_ = self.attributor_.latent_shift(X_explain)
        self._find_examples(X_explain, y_explain, data, rng)
        self.reconstruction_ = None
        with self._step("reconstruct"):
            try:
                self._reconstruct(data.X, X_explain, y_explain, rng)
            except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
                # What a report can do without must not cost all of it.
                self._remarks.append(f"Samples could not be rebuilt: {error}")
        self._describe(data, X_explain, y_explain)
        look = data.X, data.y, X_explain, rng
        self._contrast(data, X_explain, y_explain, X_calibration, rng)
        chosen = self.concepts, self.concept_params
        self.concepts_ = self._inside(*chosen, "learn concepts", find_concepts, *look)
        chosen = self.decoding, self.decoding_params
        self.decoding_ = self._inside(*chosen, "learn to decode", decode_layer, *look)
        return self

    def to_html(self, path: PathLike) -> Path:
        """Write the report as one HTML file that needs nothing else.

        Parameters
        ----------
        path : str or path-like
            Where to; an existing file is replaced.

        Returns
        -------
        path : pathlib.Path
            Where it was written.

        Raises
        ------
        NotFittedError
            If called before `fit`.
        """
        check_is_fitted(self)
        path = Path(path)
        with self._step("draw and write"):
            write_file(path, render(self))
        return path

    def to_numbers(self, path: PathLike) -> Path:
        """Write names, labels, nearest known samples and attributions of the explained samples.

        Parameters
        ----------
        path : str or path-like
            A .csv or .parquet file; an existing file is replaced.

        Returns
        -------
        path : pathlib.Path
            Where it was written.

        Raises
        ------
        NotFittedError
            If called before `fit`.
        ValueError
            If the suffix is another.
        """
        check_is_fitted(self)
        path = Path(path)
        write_numbers(self, path)
        return path

    # -- steps of fit --------------------------------------------------------------------------

    @contextmanager
    def _step(self, name):
        start = time.perf_counter()
        if self.verbose:
            print(f"[{sum(self._clock.values()):5.1f} s] {name}", flush=True)
        yield
        self._clock[name] = time.perf_counter() - start

    @property
    def timings_(self) -> dict[str, float]:
        """Seconds of each step so far."""
        check_is_fitted(self)
        return dict(self._clock)

    def __sklearn_is_fitted__(self):
        """Say whether there is something to write."""
        return hasattr(self, "facts_")

    def _common(self):
        return {
            "layer": self.layer,
            "batch_size": self.batch_size,
            "device": self.device,
            "random_state": self.seed_,
        }

    def _fit_attributor(self, X, y):
        """Fit the model if it is not, and what explains it, by the method that goes with it."""
        options = {"baseline": self.baseline, "center": self.center}
        options |= {"channel_axis": self.channel_axis, **self._common()}
        estimator, method = self.estimator, self.method
        if method == "auto":
            # This one asks for nothing but outputs, and trains the model if that is to be done.
            first = LabelFreeAttributor(estimator, method="feature_ablation", **options).fit(X, y)
            estimator, n_columns = first.estimator_, int(np.prod(first.input_shape_))
            method = "integrated_gradients"
            if not first._representation.differentiable:
                method = "kernel_shap" if n_columns <= _FEW_COLUMNS else "shapley_sampling"
                self._remarks.append(
                    f"No gradients pass through this model, so columns are exchanged for those of "
                    f"the baseline instead ({method})."
                )
        self.method_ = method
        options |= {"method": method, "method_params": self.method_params}
        self.attributor_ = LabelFreeAttributor(estimator, **options).fit(X, y)
        self.estimator_ = self.attributor_.estimator_

    def _attribute(self, X):
        """Attribute samples; of a method that draws, find out how sure that is."""
        shape, errors = (len(X), *self.attributor_.input_shape_), None
        if hasattr(self.attributor_, "confidence_intervals"):
            found = self.attributor_.confidence_intervals(X)
            maps, errors = found.attributions, found.standard_errors.reshape(shape)
            if warn_of_close(np.abs(maps), errors, "method_params['n_samples']"):
                self._remarks.append(
                    "So little was drawn at random that for most samples the most important "
                    "feature cannot be told from the second: raise method_params['n_samples']."
                )
        else:
            maps = np.asarray(self.attributor_.transform(X))
        self.attributions_, self.standard_errors_ = maps.reshape(shape), errors

    def _predict(self, X, y):
        """Ask a predictor what it says, and explain its outputs one by one."""
        self._unit_maps = self._unit_errors = None
        self.predictions_ = None if self.layer is not None else predictions(self, X, y)
        found = self.predictions_
        if found is None:
            return
        shape, n_units = self.attributor_.input_shape_, self.attributor_.n_units_
        if n_units > _MANY_OUTPUTS:
            units = np.unique(found.own)
        else:
            units = np.arange(n_units)
        if self.standard_errors_ is None:
            maps = self.attributor_.unit_attributions(X, units)
        else:
            maps, errors, *_ = self.attributor_._unit_estimates(X, units)
            self._unit_errors = _by_unit(errors, units, shape)
        self._unit_maps = _by_unit(maps, units, shape)

    def _find_examples(self, X_explain, y_explain, data, rng):
        n = len(data.X_corpus)
        kept = np.sort(rng.permutation(n)[: self.max_corpus])
        X_corpus = _compute.take(data.X_corpus, kept)
        y_corpus = None if data.y_corpus is None else data.y_corpus[kept]
        with self._step(f"search {len(kept)} known samples"):
            examples = DKNNImportance(self.estimator_, **self._common()).fit(X_corpus)
            self.example_importance_ = examples
            self.label_agreement_ = None
            known = y_explain is not None and y_corpus is not None
            if known and not _compute.has_values(self.estimator_, y_corpus):
                self.label_agreement_ = _compute.label_agreement(
                    examples.transform(X_explain), y_explain, y_corpus, 10
                )
            labels = np.zeros(len(X_explain)) if y_explain is None else y_explain
            shown = _compute.choose_shown(labels, self.n_examples, rng)
            k = min(self.n_neighbors, len(kept))
            importance, index = examples.top_examples(X_explain, k)
            isolation = None
            if len(kept) > 1:
                # Importance falls with distance: a small largest one is a far nearest neighbour.
                own, _ = examples.top_examples(X_corpus, 1, exclude_self=True)
                isolation = _compute.rarity(-importance[shown, 0], -own[:, 0])
        self._neighbours = Bunch(
            ids=data.ids_corpus[kept][index],
            importance=importance,
            labels=None if y_corpus is None else y_corpus[index],
            own_labels=y_explain,
        )
        index, importance = index[shown], importance[shown]
        self._shown = Bunch(
            positions=shown,
            neighbours=_compute.take(X_corpus, index.ravel()),
            neighbour_labels=None if y_corpus is None else y_corpus[index],
            neighbour_positions=kept[index],
            neighbour_ids=data.ids_corpus[kept][index],
            importance=importance,
            isolation=isolation,
        )

    def _reconstruct(self, X, X_explain, y_explain, rng):
        sample = np.sort(rng.permutation(len(X))[:1000])
        train = explained = None
        if self.layer is None:
            train = _compute.reconstruction(self.estimator_, _compute.take(X, sample))
            explained = _compute.reconstruction(self.estimator_, X_explain)
        if train is None or explained is None:
            return
        errors = _compute.rarity(_compute.squared_errors(explained), _compute.squared_errors(train))
        classes = []
        if y_explain is not None:
            for row in self.label_agreement_.classes if self.label_agreement_ else ():
                own = y_explain == row.label
                r2 = _compute.explained_variance(explained.inputs[own], explained.outputs[own])
                classes.append((row.label, r2))
        self.reconstruction_ = Bunch(
            train=train.r2,
            explained=explained.r2,
            classes=classes,
            error_rank=errors,
            n_compared=len(sample),
        )
        self._shown.reconstructions = None
        if explained.raw is not None:
            self._shown.reconstructions = explained.raw[self._shown.positions]

    def _inside(self, wanted, params, step, compute, *data):
        """Look inside the model if that is wanted; say why if it is not possible."""
        if not (_compute.is_predictor(self.estimator_) if wanted == "auto" else wanted):
            return None
        with self._step(step):
            try:
                return compute(self, *data)
            except (TypeError, ValueError) as error:
                # What the user has chosen may be what is wrong, not the model.
                if wanted != "auto" or (params and isinstance(error, ValueError)):
                    raise
                return Bunch(reason=str(error))

    def _contrast(self, data, X_explain, y_explain, calibration, rng):
        """Say what is abnormal, and what makes each class or cluster."""
        if calibration is not None:
            calibration = _compute.as_container(calibration)
        wanted = self.anomalies
        wanted = tells_anomalies(self) if wanted == "auto" else wanted
        args = calibration, data.X_explain, X_explain, y_explain, rng
        self.anomalies_ = self._tried(wanted, "say what is abnormal", find_anomalies, *args)
        if "reason" in (self.anomalies_ or ()) and self.anomalies == "auto":
            # Whether a network rebuilds samples is not known before it is tried.
            self.anomalies_ = None if is_bare(self.estimator_) else self.anomalies_
        args = data.X_corpus, data.y_corpus, rng
        self.clusters_ = self._tried(self.clusters, "tell groups apart", contrast_clusters, *args)

    def _tried(self, wanted, step, compute, *data):
        """Compute what a report can do without; say why if it is not possible."""
        if not wanted:
            return None
        with self._step(step):
            try:
                return compute(self, *data)
            except (TypeError, ValueError, AttributeError) as error:
                return Bunch(reason=str(error))

    def _describe(self, data, X_explain, y_explain):
        """Keep what the text needs of the data, but not the data."""
        shape = self.attributor_.input_shape_
        self._shown.samples = _compute.take(X_explain, self._shown.positions)
        self._shown.labels = None if y_explain is None else y_explain[self._shown.positions]
        self._shown.attributions = self.attributions_[self._shown.positions]
        self._shown.errors = None
        if self.standard_errors_ is not None:
            self._shown.errors = self.standard_errors_[self._shown.positions]
        if self._unit_maps is not None:
            # Of a prediction, readers want to know what speaks for it.
            own = self.predictions_.own[self._shown.positions]
            places = list(zip(own.tolist(), self._shown.positions.tolist(), strict=True))
            self._shown.attributions = np.stack([self._unit_maps[u][i] for u, i in places])
            if self._unit_errors is not None:
                self._shown.errors = np.stack([self._unit_errors[u][i] for u, i in places])
        self._shown.attributions = _compute.without_rounding(
            self._shown.attributions, self.attributions_
        )
        means = Bunch(train=None, explained=None)
        if self._sample.kind != "table":
            means.train = np.asarray(data.X, dtype=np.float64).mean(axis=0)
            means.explained = np.asarray(X_explain, dtype=np.float64).mean(axis=0)
        self._means = means
        self._explained_rows = X_explain if self._sample.kind == "table" else None
        self._class_importances = []
        for row in self.label_agreement_.classes if self.label_agreement_ else ():
            own = np.abs(self.attributions_[y_explain == row.label])
            self._class_importances.append((row.label, row.n, own.mean(axis=0)))
        self.facts_ = _compute.model_facts(
            self.estimator_, self.attributor_.n_units_, int(np.prod(shape))
        )
        self.facts_.update(
            shape=shape,
            n_train=len(data.X),
            n_explain=len(data.X_explain),
            n_corpus=len(data.X_corpus),
            corpus_is_train=data.X_corpus is data.X,
            data_hash=joblib.hash(data.X),
            explain_hash=joblib.hash(data.X_explain),
            n_threads=torch.get_num_threads(),
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
        )


def _is_model_fitted(estimator):
    """Tell whether nothing has to be trained; modules and stateless estimators count as fitted."""
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return True
    return is_fitted(estimator) is not False


def _by_unit(maps, units, shape):
    """Return maps (n, n_units, ...) by unit: (n, *shape)."""
    maps = np.asarray(maps)
    maps = maps.reshape(len(maps), len(units), *shape).swapaxes(0, 1)
    return dict(zip(units.tolist(), maps, strict=True))
