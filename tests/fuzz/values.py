"""Values that people, searches and mistakes give to parameters."""

import datetime
import decimal
import fractions
import pathlib

import numpy as np
import pandas as pd
import torch
from torch import nn


def make_values():
    """Return values of all kinds, by a name for each: made anew, as some can be changed.

    Returns
    -------
    values : dict of str to object
    """
    rng = np.random.default_rng(0)
    values = [
        *(None, True, False, np.True_, np.False_),
        *(0, 1, 2, 3, -1, -5, 10**9, 10**30, -(10**30)),
        *(0.0, 0.5, 1.0, 2.5, -0.5, 1e300, -1e300, 1e-300),
        *(float("nan"), float("inf"), -float("inf")),
        *(np.int8(3), np.int64(2), np.uint8(2), np.int64(-1), np.float32(0.5), np.float64(0.25)),
        *(np.float64("nan"), np.longdouble(0.5), np.array(2), np.array(0.5)),
        *(2j, decimal.Decimal("0.5"), fractions.Fraction(1, 2)),
        *("", "x", "auto", "mean", "false", "None", "0", "é\udcff", "a" * 1000, b"mean"),
        *([], [1], [0, 1], [True], ["x"], [None], [[1, 2], [3]], (), (2,), (3, 2), (0,), (2.5,)),
        *(
            {},
            {"x": 1},
            {1: 2},
            {"n_steps": 2.5},
            {"n_steps": "x"},
            {"batch_size": "x"},
            {0},
            range(2),
        ),
        *(
            np.zeros(0),
            np.zeros(4),
            np.array([0, 1]),
            np.array(["a", "b"]),
            np.array([True, False]),
        ),
        *(rng.normal(size=(30, 4)), rng.normal(size=(2, 2, 2)), np.array([None, 1], dtype=object)),
        *(torch.tensor(2), torch.zeros(3), pd.Series([1, 2]), pd.DataFrame({"a": [1, 2]})),
        *(len, int, lambda *args, **kwargs: None, nn.ReLU(), nn.ReLU, torch.float32),
        *(object(), datetime.date(2020, 1, 1), pathlib.Path("nowhere"), slice(2)),
        *(np.random.RandomState(0), np.random.default_rng(0), torch.Generator(), ...),
    ]
    return {f"{number} {_name(value)}": value for number, value in enumerate(values)}


def _name(value):
    return ascii(" ".join(repr(value).split())[:40])
