"""What a report goes through in fit, step by step."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import datetime

import joblib
import numpy as np
import torch
from sklearn.utils import Bunch

from ..attribution import LabelFreeAttributor
from ..examples import DKNNImportance
from ..explaining import warn_of_close
from . import _compute
from ._anomalies import find_anomalies, is_bare, tells_anomalies
from ._clusters import contrast_clusters
from ._predictions import predictions

_FEW_COLUMNS = 10  # all of whose coalitions are asked for
_MANY_OUTPUTS = 20


class Steps:
    """The part of `RepresentationReport` that explains model and samples."""

    @contextmanager
    def _step(self, name):
        start = time.perf_counter()
        if self.verbose:
            print(f"[{sum(self._clock.values()):5.1f} s] {name}", flush=True)
        yield
        self._clock[name] = time.perf_counter() - start

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
                # A DataFrame, where scikit-learn's configuration asks for them.
                importance = np.asarray(examples.transform(X_explain))
                self.label_agreement_ = _compute.label_agreement(
                    importance, y_explain, y_corpus, 10
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


def _by_unit(maps, units, shape):
    """Return maps (n, n_units, ...) by unit: (n, *shape)."""
    maps = np.asarray(maps)
    maps = maps.reshape(len(maps), len(units), *shape).swapaxes(0, 1)
    return dict(zip(units.tolist(), maps, strict=True))
