"""Loading the user's model for the command line."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from ..reading import InputError
from ..representation import is_fitted
from ..utils import missing_extra, warn

_PICKLES = (".pkl", ".pickle", ".joblib")

# What nets saved by skops are made of, and functions that scikit-learn's estimators keep,
# name by name. A prefix such as "torch." would let a file call whatever
# function it likes there.
_TRUSTED = frozenset(
    {
        "builtins.print",
        "functools.partial",
        "numpy.dtype",
        "numpy.mean",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklexplain.nets._autoencoder.Autoencoder",
        "sklexplain.nets._contrastive.ContrastiveEncoder",
        "sklexplain.nets._contrastive_module.ContrastiveModule",
        "sklexplain.nets._contrastive_module.build_contrastive",
        "sklexplain.nets._conv2d.Conv2dAutoencoder",
        "sklexplain.nets._lstm.LSTMAutoencoder",
        "sklexplain.nets._modules.AutoencoderModule",
        "sklexplain.nets._modules.Conv1dAutoencoder",
        "sklexplain.nets._modules.LSTMAutoencoder",
        "sklexplain.nets._modules.MLPAutoencoder",
        "sklexplain.nets._modules.build_autoencoder",
        "sklexplain.nets._score_constraint.ScoreConstraint",
        "sklexplain.nets._training.PretextNet",
        "sklexplain.nets._variational.VariationalAutoencoder",
        "sklexplain.nets._variational_module.VariationalModule",
        "sklexplain.nets._variational_module.build_variational",
        "sklexplain.report._recipes.EpochProgress",
        "sklexplain.scores._score_constraint.ScoreConstraint",
        "sklexplain.training._contrastive.ContrastiveNet",
        "sklexplain.training._pretext.PretextNet",
        "sklexplain.training._variational.VariationalNet",
        "skorch.callbacks.logging.EpochTimer",
        "skorch.callbacks.logging.PrintLog",
        "skorch.callbacks.scoring.PassthroughScoring",
        "skorch.callbacks.training.EarlyStopping",
        "skorch.dataset.Dataset",
        "skorch.history.History",
        "skorch.setter.optimizer_setter",
        "torch.nn.modules.loss.L1Loss",
        "torch.nn.modules.loss.MSELoss",
        "torch.optim.adam.Adam",
        "torch.utils.data.dataloader.DataLoader",
    }
)
# Where scikit-learn's learners are, and what they are made of once fitted: trees, kernels, losses.
_LEARNERS = frozenset(
    """_loss calibration cluster compose covariance cross_decomposition decomposition
    discriminant_analysis dummy ensemble feature_extraction feature_selection gaussian_process
    impute isotonic kernel_approximation kernel_ridge linear_model manifold mixture model_selection
    multiclass multioutput naive_bayes neighbors neural_network pipeline preprocessing
    random_projection semi_supervised svm tree""".split()
)
_DISTANCES = "sklearn.metrics._dist_metrics."


def is_of_sklearn(name):
    """Tell whether a name is of a class that scikit-learn's fitted estimators are made of.

    Such a class holds numbers, and calls only functions that are named, and looked at, themselves.

    Parameters
    ----------
    name : str
        As skops writes it, with the module.

    Returns
    -------
    is_of : bool
    """
    module, _, attribute = name.rpartition(".")
    parts = module.split(".")
    known = len(parts) > 1 and parts[0] == "sklearn" and parts[1] in _LEARNERS
    if "tests" in parts or not (known or name.startswith(_DISTANCES)):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    # Not what the module has imported from elsewhere.
    return isinstance(found, type) and found.__module__.partition(".")[0] == "sklearn"


def load_model(path: Path, *, trust: Sequence[str] = (), allow_pickle: bool = False) -> Any:
    """Load a fitted estimator.

    Parameters
    ----------
    path : pathlib.Path
        A .skops file, or a pickle (.pkl, .pickle, .joblib).
    trust : sequence of str, default=()
        Types in a .skops file that the user trusts, beside those of scikit-learn that skops trusts
        and those of `sklexplain.nets`.
    allow_pickle : bool, default=False
        Load pickles. Loading a pickle runs whatever code is in it.

    Returns
    -------
    estimator : estimator
        Fitted.

    Raises
    ------
    InputError
        If the file cannot be used or is not trusted.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    suffix = path.suffix.lower()
    if suffix == ".skops":
        estimator = _load_skops(path, trust)
    elif suffix in _PICKLES:
        estimator = _load_pickle(path, allow_pickle)
    else:
        raise InputError(
            f"{path.name}: the suffix {suffix!r} is not known; save the fitted estimator with "
            "skops.io.dump(estimator, 'model.skops') (weights alone, as in .pt files, do not say "
            "what the network is)."
        )
    if not hasattr(estimator, "fit") and not hasattr(estimator, "forward"):
        raise InputError(f"{path.name} holds no model but a {type(estimator).__name__}.")
    if hasattr(estimator, "get_params") and is_fitted(estimator) is False:
        raise InputError(
            f"the {type(estimator).__name__} in {path.name} is not fitted; fit it, then save it."
        )
    return estimator


def _load_skops(path, trust):
    try:
        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError as error:
        raise InputError(missing_extra("skops", "Reading .skops files")) from error
    broken = (OSError, BadZipFile, KeyError, ValueError, TypeError, ImportError, AttributeError)
    broken += (RecursionError, MemoryError)
    try:
        unknown = io.get_untrusted_types(file=path)
        trusted = _TRUSTED.union(trust)
        untrusted = [n for n in unknown if n not in trusted and not is_of_sklearn(n)]
        if not untrusted:
            return io.load(path, trusted=unknown)
    except (*broken, UntrustedTypesFoundException, NotImplementedError) as error:
        raise InputError(f"{path.name} cannot be read as .skops: {error}") from error
    options = " ".join(f"--trust {name}" for name in untrusted)
    raise InputError(
        f"{path.name} uses types that are not known to be safe: {', '.join(untrusted)}. If you "
        f"know them and trust where the file comes from, add {options}"
    )


def _load_pickle(path, allow_pickle):
    if not allow_pickle:
        raise InputError(
            f"{path.name} is a pickle, and loading a pickle runs whatever code is in it. If you "
            "trust where it comes from, add --allow-pickle; better, save models with skops."
        )
    warn(f"loading {path.name} runs the code in it, with your rights.")
    import joblib

    broken = (pickle.UnpicklingError, EOFError, OSError, ImportError, AttributeError)
    try:
        return joblib.load(path)
    except (*broken, KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{path.name} cannot be loaded ({type(error).__name__}: {error}); it needs the "
            "packages and versions that it was saved with."
        ) from error
