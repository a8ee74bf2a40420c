"""Readable models of one number: a shallow tree, and a sum of few terms."""

import numpy as np
from sklearn.tree import DecisionTreeRegressor

# A split or a term that explains a smaller share of the variance is not worth reading.
_LEAST = 1e-4
_MOST_VALUES = 6


class UnitTree:
    """A shallow regression tree.

    Categories have numbers in the order of the unit's mean over them, of which the best split in
    two is always one between neighbours (Fisher 1958).

    Parameters
    ----------
    columns : ReadableColumns
        What it reads.
    max_depth : int
        Most decisions on the way to a leaf.
    seed : int
        Of ties between splits.
    """

    def __init__(self, columns, max_depth, seed):
        self.columns = columns
        self.max_depth = max_depth
        self.seed = seed

    def fit(self, X, y):
        """Learn.

        Parameters
        ----------
        X : ndarray of shape (n, n_columns)
            What `columns` returned.
        y : ndarray of shape (n,)
            The unit.

        Returns
        -------
        self : UnitTree
        """
        pairs = enumerate(self.columns.values)
        self._ranks = {i: _ranks(X[:, i], len(v), y) for i, v in pairs if v is not None}
        X = self._ranked(X)
        self._has_missing = np.isnan(X).any(axis=0)
        # The tree computes in single precision: around 0 it has most of it.
        self._middle = np.array([_median(column) for column in X.T])
        least = _LEAST * float(np.var(y))
        options = {"random_state": self.seed, "min_impurity_decrease": least}
        self.tree_ = DecisionTreeRegressor(max_depth=self.max_depth, **options)
        self.tree_.fit(X - self._middle, y)
        return self

    def predict(self, X):
        """Tell the unit.

        Parameters
        ----------
        X : ndarray of shape (n, n_columns)
            What `columns` returned.

        Returns
        -------
        y : ndarray of shape (n,)
        """
        return self.tree_.predict(self._ranked(X) - self._middle)

    @property
    def importances(self):
        """Share of every column in what the model explains."""
        return self.tree_.feature_importances_

    def _ranked(self, X):
        if not self._ranks:
            return X
        X = X.copy()
        for i, ranks in self._ranks.items():
            known = ~np.isnan(X[:, i])
            X[known, i] = ranks[X[known, i].astype(int)]
        return X

    def lines(self, digits):
        """Write the tree, a line a branch.

        Parameters
        ----------
        digits : int
            Significant digits of numbers.

        Returns
        -------
        lines : list of str
        """
        return list(self._branch(0, 0, digits))

    def _branch(self, node, depth, digits):
        tree, bar = self.tree_.tree_, "|   " * depth + "|--- "
        if tree.children_left[node] < 0:
            yield f"{bar}value: {tree.value[node, 0, 0]:.{digits}g}"
            return
        column, threshold = tree.feature[node], tree.threshold[node]
        left, right = self._sides(column, threshold + self._middle[column], digits)
        if self._has_missing[column]:
            is_left = tree.missing_go_to_left[node]
            left, right = (
                (left + " or missing", right) if is_left else (left, right + " or missing")
            )
        yield bar + left
        yield from self._branch(tree.children_left[node], depth + 1, digits)
        yield bar + right
        yield from self._branch(tree.children_right[node], depth + 1, digits)

    def _sides(self, column, threshold, digits):
        name, ranks = self.columns.names[column], self._ranks.get(column)
        if ranks is None:
            return f"{name} <= {threshold:.{digits}g}", f"{name} >  {threshold:.{digits}g}"
        values = self.columns.values[column]
        order = np.argsort(ranks, kind="stable")  # those that are not seen come last
        seen = [i for i in order if not np.isnan(ranks[i])]
        return tuple(
            f"{name} in {{{_listed([values[i] for i in seen if (ranks[i] <= threshold) == low])}}}"
            for low in (True, False)
        )


class UnitSum:
    """A sum of few terms, each a column or whether it is a category: orthogonal matching pursuit.

    Parameters
    ----------
    columns : ReadableColumns
        What it reads.
    max_terms : int
        Most terms.
    """

    def __init__(self, columns, max_terms):
        self.columns = columns
        self.max_terms = max_terms

    def fit(self, X, y):
        """Learn.

        Parameters
        ----------
        X : ndarray of shape (n, n_columns)
            What `columns` returned.
        y : ndarray of shape (n,)
            The unit.

        Returns
        -------
        self : UnitSum
        """
        A, self._terms = self._matrix(X)
        # What is missing counts as the mean.
        counts = np.maximum((~np.isnan(A)).sum(axis=0), 1)
        self._mean = np.nansum(A, axis=0) / counts
        A = np.nan_to_num(A - self._mean)
        scale = np.linalg.norm(A, axis=0)
        tiny = 1e-9 * np.sqrt(len(A)) * np.maximum(np.abs(self._mean), np.abs(A).max(axis=0))
        varies = scale > tiny
        A = A / np.where(varies, scale, 1.0)
        chosen, weights = _pursuit(A, y - y.mean(), varies, self.max_terms)
        self._chosen, self._coef = chosen, weights / scale[chosen]
        self._strength = np.abs(weights)
        self._intercept = float(y.mean() - self._coef @ self._mean[chosen])
        return self

    def _matrix(self, X):
        """Return numbers as they are, and a column of 0 and 1 for each category."""
        columns, terms = [], []
        for i, values in enumerate(self.columns.values):
            if values is None:
                columns.append(X[:, i])
                terms.append((i, None))
                continue
            for code in range(len(values)):
                columns.append((X[:, i] == code).astype(np.float64))
                terms.append((i, code))
        return np.stack(columns, axis=1), terms

    def predict(self, X):
        """Tell the unit.

        Parameters
        ----------
        X : ndarray of shape (n, n_columns)
            What `columns` returned.

        Returns
        -------
        y : ndarray of shape (n,)
        """
        A = self._matrix(X)[0][:, self._chosen]
        A = np.where(np.isnan(A), self._mean[self._chosen], A)
        return A @ self._coef + self._intercept

    @property
    def importances(self):
        """Share of every column in the sizes of all terms, of columns of equal spread."""
        shares = np.zeros(len(self.columns.names))
        for term, strength in zip(self._chosen, self._strength, strict=True):
            shares[self._terms[term][0]] += strength
        return shares / (shares.sum() or 1.0)

    def lines(self, digits):
        """Write the sum, a line a term, the largest first.

        Parameters
        ----------
        digits : int
            Significant digits of numbers.

        Returns
        -------
        lines : list of str
        """
        lines = [f"  {self._intercept:.{digits}g}"]
        for place in np.argsort(-self._strength, kind="stable"):
            column, code = self._terms[self._chosen[place]]
            name, coef = self.columns.names[column], self._coef[place]
            if code is not None:
                name = f"[{name} is {self.columns.values[column][code]}]"
            lines.append(f"{'-' if coef < 0 else '+'} {abs(coef):.{digits}g} * {name}")
        return lines


def _pursuit(A, y, varies, max_terms):
    """Choose columns one by one: each the one that explains most of what is left."""
    chosen, weights, residual = [], np.zeros(0), y
    total = float(y @ y)
    while len(chosen) < max_terms and total > 0:
        gain = np.square(A.T @ residual) * varies
        gain[chosen] = 0.0
        best = int(np.argmax(gain))
        if gain[best] < _LEAST * total:
            break
        chosen.append(best)
        weights = np.linalg.lstsq(A[:, chosen], y, rcond=None)[0]
        residual = y - A[:, chosen] @ weights
    return np.array(chosen, dtype=int), weights


def _ranks(codes, n_values, y):
    """Return the place of every category in the order of the unit's mean; NaN of unseen ones."""
    ranks = np.full(n_values, np.nan)
    known = ~np.isnan(codes)
    numbers = codes[known].astype(int)
    counts = np.bincount(numbers, minlength=n_values)
    seen = np.flatnonzero(counts)
    means = np.bincount(numbers, weights=y[known], minlength=n_values)[seen] / counts[seen]
    ranks[seen[np.argsort(means, kind="stable")]] = np.arange(len(seen))
    return ranks


def _median(column):
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def _listed(values):
    if len(values) <= _MOST_VALUES:
        return ", ".join(values)
    return ", ".join(values[: _MOST_VALUES - 1]) + f", … ({len(values)} in all)"
