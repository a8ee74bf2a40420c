"""Containers of raw tables: their columns as numbers, and columns put together again."""

import numbers

import numpy as np

LARGEST = 2.0**53  # integers above it have no float64 of their own


def is_plain(X):
    """Whether X is an array of numbers that float64 holds exactly."""
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "biuf":
        return False
    return X.dtype.kind not in "iu" or X.dtype.itemsize < 8 or _small(X)


def _small(X):
    return not X.size or (X.max() <= LARGEST and X.min() >= -LARGEST)


def cast_if_exact(values, dtype):
    """Copy numbers into a dtype if it can hold them all, else as they are."""
    if dtype.kind == "f":
        return values.astype(dtype)
    if dtype.kind == "b":
        return values == 1 if np.isin(values, (0, 1)).all() else values.copy()
    whole = np.isfinite(values).all() and (values == np.floor(values)).all()
    limits = np.iinfo(dtype) if whole else None
    if whole and (not values.size or limits.min <= values.min() <= values.max() <= limits.max):
        return values.astype(dtype)
    return values.copy()


def _floats_of_objects(values):
    """Objects as float64 if all are numbers or missing, else None."""
    floats = np.empty(len(values))
    any_number = False
    for i, value in enumerate(values):
        if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
            any_number = True
            if isinstance(value, numbers.Integral) and abs(int(value)) > LARGEST:
                return None
            floats[i] = value
        elif value is None or type(value).__name__ in ("NAType", "NaTType"):
            floats[i] = np.nan
        else:
            return None
    return floats if any_number else None


def _is_object(dtype):
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


def _first_missing(values):
    return next((v for v in values if not isinstance(v, numbers.Real) or v != v), None)


class _Arrays:
    """Two-dimensional arrays of objects or text."""

    name = "array"

    def names_of(self, names):
        return None

    def plain(self, dtype):
        return dtype.str

    def dtype_of(self, plain):
        return np.dtype(plain)

    def plain_values(self, values, dtype):
        return list(values)

    def values_of(self, plain, dtype):
        return plain

    def holds(self, X):
        return isinstance(X, np.ndarray)

    def names(self, X):
        return None

    def columns(self, X):
        return list(X.T)

    def dtype(self, column):
        return column.dtype

    def kind(self, dtype):
        return dtype.kind.replace("u", "i")

    def floats(self, column):
        if column.dtype.kind in "biuf":
            return column.astype(np.float64) if is_plain(column) else None
        return _floats_of_objects(column) if _is_object(column.dtype) else None

    def missing(self, column):
        return _first_missing(column) if _is_object(column.dtype) else None

    def distinct(self, column):
        if _is_object(column.dtype):
            return column, None
        values, inverse = np.unique(column, return_inverse=True)
        return list(values), inverse

    def bank(self, values, dtype):
        bank = np.empty(len(values), dtype=object)
        bank[:] = values
        return bank if _is_object(dtype) else bank.astype(np.array(values).dtype)

    def take(self, bank, places):
        return bank[places]

    def middle(self, column):
        return None

    def numbers(self, values, dtype, missing):
        if not _is_object(dtype):
            return cast_if_exact(values, dtype)
        objects = values.astype(object)
        objects[np.isnan(values)] = missing
        return objects

    def build(self, columns, names):
        same = {column.dtype.kind for column in columns}
        if len(same) == 1 and same <= set("USiufbMm"):
            return np.stack(columns, axis=1)
        return np.stack([column.astype(object) for column in columns], axis=1)

    def whole(self, values, names):
        return values


class _Pandas:
    """pandas DataFrames."""

    name = "pandas"

    def names_of(self, names):
        import pandas

        return pandas.Index(names)  # tuples make a MultiIndex

    def plain(self, dtype):
        if _is_categorical(dtype):
            return [list(dtype.categories), bool(dtype.ordered)]
        # "string" alone would be kept in whatever way pandas prefers where it is read again.
        return f"string[{dtype.storage}]" if str(dtype) == "string" else str(dtype)

    def dtype_of(self, plain):
        import pandas

        if isinstance(plain, str):
            return pandas.api.types.pandas_dtype(plain)
        return pandas.CategoricalDtype(*plain)

    def plain_values(self, values, dtype):
        bank = self.bank(list(values), dtype)
        # Dates and durations as integers.
        return bank.asi8.tolist() if dtype.kind in "mM" and bank.dtype == dtype else list(values)

    def values_of(self, plain, dtype):
        import pandas

        if dtype.kind in "mM" and all(isinstance(value, int) for value in plain):
            return list(pandas.Series(plain, dtype="int64").astype(dtype))
        return plain

    def holds(self, X):
        return is_pandas(X)

    def names(self, X):
        return X.columns.copy()

    def columns(self, X):
        return [X.iloc[:, i] for i in range(X.shape[1])]

    def dtype(self, column):
        return column.dtype

    def kind(self, dtype):
        from pandas.api import types

        if types.is_bool_dtype(dtype):
            return "b"
        return "i" if types.is_integer_dtype(dtype) else "f"

    def floats(self, column):
        from pandas.api import types

        dtype = column.dtype
        if _is_object(dtype):
            return _floats_of_objects(column.to_numpy())
        if not types.is_numeric_dtype(dtype) or types.is_complex_dtype(dtype):
            return None
        if types.is_integer_dtype(dtype) and len(column) and column.notna().any():
            if column.max() > LARGEST or column.min() < -LARGEST:
                return None
        return column.to_numpy(dtype=np.float64, na_value=np.nan)

    def missing(self, column):
        return _first_missing(column.to_numpy()) if _is_object(column.dtype) else None

    def distinct(self, column):
        if _is_object(column.dtype):
            return column.to_numpy(), None
        from pandas import factorize

        inverse, values = factorize(column, use_na_sentinel=False)
        return list(values), inverse

    def bank(self, values, dtype):
        import pandas

        if _is_categorical(dtype):
            categories = dtype.categories
            extra = [v for v in values if not pandas.isna(v) and v not in categories]
            if extra:
                dtype = pandas.CategoricalDtype([*categories, *extra], ordered=dtype.ordered)
        try:
            return pandas.Series(values, dtype=dtype).array
        except (TypeError, ValueError):  # values of another kind than those in fit
            return pandas.Series(values, dtype=object).array

    def take(self, bank, places):
        return bank.take(places)

    def middle(self, column):
        """Mean of dates and durations, None of anything else."""
        import pandas

        column = pandas.Series(column)
        if column.dtype.kind not in "mM" or column.isna().all():
            return None
        return column.mean()

    def numbers(self, values, dtype, missing):
        import pandas

        if _is_object(dtype):
            objects = values.astype(object)
            objects[np.isnan(values)] = missing
            return objects
        if isinstance(dtype, np.dtype):
            return cast_if_exact(values, dtype)
        try:
            return pandas.Series(values).astype(dtype).array
        except (TypeError, ValueError):  # a mean of integers
            return values

    def build(self, columns, names):
        import pandas

        # Objects are not to be taken for text, should they all be text.
        columns = [pandas.Series(c, dtype=c.dtype) for c in columns]
        frame = pandas.DataFrame(dict(enumerate(columns)), copy=True)
        frame.columns = names
        return frame

    def whole(self, values, names):
        import pandas

        return pandas.DataFrame(values, columns=names)


class _Polars:
    """polars DataFrames."""

    name = "polars"

    def names_of(self, names):
        return names

    def plain(self, dtype):
        return dtype

    def dtype_of(self, plain):
        return plain

    def plain_values(self, values, dtype):
        return list(values)

    def values_of(self, plain, dtype):
        return plain

    def holds(self, X):
        return type(X).__module__.startswith("polars")

    def names(self, X):
        return list(X.columns)

    def columns(self, X):
        return list(X.iter_columns())

    def dtype(self, column):
        return column.dtype

    def kind(self, dtype):
        import polars

        return "b" if dtype == polars.Boolean else "i" if dtype.is_integer() else "f"

    def floats(self, column):
        import polars

        dtype = column.dtype
        if dtype == polars.Object:
            return _floats_of_objects(column.to_list())
        if not (dtype == polars.Boolean or dtype.is_integer() or dtype.is_float()):
            return None
        if dtype.is_integer() and column.count():
            if column.max() > LARGEST or column.min() < -LARGEST:
                return None
        return column.cast(polars.Float64).to_numpy()

    def missing(self, column):
        return "null" if column.null_count() else None

    def distinct(self, column):
        return column.to_list(), None

    def bank(self, values, dtype):
        import polars

        try:
            return polars.Series(values, dtype=dtype)
        except (TypeError, polars.exceptions.PolarsError):
            return polars.Series(values, dtype=polars.Object)

    def take(self, bank, places):
        return bank.gather(places)

    def middle(self, column):
        return column.mean() if column.dtype.is_temporal() else None

    def numbers(self, values, dtype, missing):
        import polars

        column = polars.Series(values)
        if dtype == polars.Boolean:
            plain = np.isin(values[~np.isnan(values)], (0, 1)).all()
            return column.fill_nan(None).cast(dtype) if plain else column
        if dtype.is_integer():
            known = values[~np.isnan(values)]
            whole = (known == np.floor(known)).all()
            return column.fill_nan(None).cast(dtype) if whole else column
        column = column.fill_nan(None) if missing == "null" else column
        return column.cast(dtype) if dtype.is_float() else column

    def build(self, columns, names):
        import polars

        return polars.DataFrame(dict(zip(names, columns, strict=True)))

    def whole(self, values, names):
        import polars

        return polars.DataFrame(values, schema=names)


CONTAINERS = {kind.name: kind for kind in (_Arrays, _Pandas, _Polars)}


def _is_categorical(dtype):
    return hasattr(dtype, "categories") and hasattr(dtype, "ordered")


def is_pandas(X):
    return hasattr(X, "iloc") and hasattr(X, "columns")


def container_of(X):
    if is_pandas(X):
        return _Pandas()
    return _Polars() if hasattr(X, "columns") else _Arrays()
