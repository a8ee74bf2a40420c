"""Computing a report; it is written in _html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..explaining import BASELINES, METHODS
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
from ._concepts import find_concepts
from ._decoding import decode_layer
from ._html import render
from ._numbers import write_numbers
from ._parts import split_parts
from ._steps import Steps


class RepresentationReport(Steps, BaseEstimator):
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

    @property
    def timings_(self) -> dict[str, float]:
        """Seconds of each step so far."""
        check_is_fitted(self)
        return dict(self._clock)

    def __sklearn_is_fitted__(self):
        """Say whether there is something to write."""
        return hasattr(self, "facts_")


def _is_model_fitted(estimator):
    """Tell whether nothing has to be trained; modules and stateless estimators count as fitted."""
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return True
    return is_fitted(estimator) is not False
