"""A table as people have it: numbers with gaps, categories, text, dates, truth, an id."""

import numpy as np
import pandas as pd

WARDS = np.array(["north", "south", "east"])
WORDS = np.array("fell at home twice no pain since then was well slept little ate less".split())


def make_table(n_samples=60, seed=0):
    """Return a DataFrame of everything, two classes, and a target that depends on most columns."""
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 15, n_samples).round(1)
    ward = rng.choice(WARDS, n_samples)
    smoker = rng.random(n_samples) < 0.4
    visits = rng.integers(0, 6, n_samples)
    seen = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n_samples), "D")
    y = (age - 50) / 15 + (ward == "north") + smoker - 0.2 * visits
    y = y + 0.3 * rng.normal(size=n_samples)
    frame = pd.DataFrame(
        {
            "id": [f"P{i:04d}" for i in range(n_samples)],
            "age": age,
            "weight": rng.normal(70, 10, n_samples),
            "visits": visits,
            "ward": ward,
            "stage": pd.Categorical(rng.choice(["I", "II", "III"], n_samples), ordered=True),
            "smoker": smoker,
            "seen": seen,
            "note": [" ".join(rng.choice(WORDS, 5)) for _ in range(n_samples)],
        }
    )
    for column, every in (("age", 7), ("weight", 11), ("ward", 13), ("stage", 17), ("seen", 19)):
        frame.loc[::every, column] = None
    return frame, (y > np.median(y)).astype(int), y


NUMBERS = ["age", "weight", "visits"]
CATEGORIES = ["ward", "stage"]


def mean_row(frame):
    """Return the row that stands for "absent": means of numbers and dates, else the commonest.

    Of several that are as common, the first in the table.
    """
    row = {}
    for name, column in frame.items():
        dated = pd.api.types.is_datetime64_any_dtype(column)
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if dated or numeric:
            row[name] = column.mean()
        else:
            counts = column.map(lambda v: "missing" if pd.isna(v) else v).value_counts()
            row[name] = next(
                v for v in column if counts["missing" if pd.isna(v) else v] == counts.max()
            )
    made = pd.DataFrame({name: [value] for name, value in row.items()})
    for name, column in frame.items():
        if made[name].dtype != column.dtype and not pd.api.types.is_integer_dtype(column.dtype):
            made[name] = made[name].astype(column.dtype)
    return made
