"""Checks for estimators that take samples with any number of axes.

scikit-learn's own `parametrize_with_checks` covers two-dimensional X. The checks here cover what
it skips: series (n, channels, time), images (n, channels, height, width), batches, and the promise
that a model handed in comes back bit-identical. They can be used for an explainer of one's own.

Every check is a function of ``(estimator, X, y)`` and raises an error that says what is wrong.
Those that need a torch module to explain do nothing for other estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..utils import EstimatorLike
from ._inputs import (
    check_batch_equals_samples,
    check_batch_size,
    check_empty,
    check_fit_returns_self,
    check_input_kinds,
    check_not_finite,
    check_not_fitted,
    check_order_and_subset,
    check_parameter_names,
    check_repeatable,
    check_shapes_recorded,
    check_wrong_shape,
)
from ._network import (
    check_changed_weights,
    check_function_of_one_sample,
    check_generators_untouched,
    check_interrupts,
    check_memory,
    check_model_unchanged,
    check_model_unchanged_during_call,
    check_network_not_finite,
    check_tags_not_asked,
    check_training_in_a_thread,
)
from ._state import (
    check_clone_keeps_model,
    check_failed_refit,
    check_fitted_estimator_keeps_parameters,
    check_interrupted_fit,
    check_keeps_nothing_of_X,
    check_methods_change_nothing,
    check_names_reset,
    check_parameters_count_at_fit,
    check_pickle,
    check_pickle_size,
    check_refit,
    check_skops,
    check_warnings_name_the_caller,
)

# What is checked, by topic.
_TOPICS = {
    "parameters": (
        check_parameter_names,
        check_fit_returns_self,
        check_clone_keeps_model,
        check_parameters_count_at_fit,
        check_fitted_estimator_keeps_parameters,
    ),
    "input": (
        check_shapes_recorded,
        check_not_fitted,
        check_not_finite,
        check_wrong_shape,
        check_empty,
        check_input_kinds,
    ),
    "results": (
        check_batch_equals_samples,
        check_order_and_subset,
        check_batch_size,
        check_repeatable,
        check_pickle,
        check_model_unchanged,
        check_generators_untouched,
    ),
    "state": (
        check_keeps_nothing_of_X,
        check_refit,
        check_failed_refit,
        check_interrupted_fit,
        check_names_reset,
        check_methods_change_nothing,
        check_pickle_size,
        check_skops,
        check_warnings_name_the_caller,
        check_tags_not_asked,
    ),
    "network": (
        check_model_unchanged_during_call,
        check_changed_weights,
        check_network_not_finite,
        check_function_of_one_sample,
        check_memory,
    ),
    "interruptions": (
        check_training_in_a_thread,
        check_interrupts,
    ),
}

TOPICS = tuple(_TOPICS)

__all__ = [
    "TOPICS",
    "nd_checks",
    "parametrize_nd_checks",
    *(check.__name__ for checks in _TOPICS.values() for check in checks),
]


def nd_checks(
    estimator: EstimatorLike,
    X: np.ndarray,
    y: ArrayLike | None = None,
    *,
    topics: Sequence[str] = TOPICS,
) -> Iterator[Callable[[], None]]:
    """Yield every check, ready to be called without arguments.

    Parameters
    ----------
    estimator : estimator
        An unfitted explainer or transformer with ``random_state`` set; never changed.
    X : ndarray of shape (n_samples, ...)
        Samples it can be fitted on, at least seven.
    y : array-like or None, default=None
        Targets for ``fit``.
    topics : sequence of str, default=TOPICS
        What to check: "parameters", "input", "results", "state", "network", "interruptions".

    Yields
    ------
    check : callable
        Raises an error that says what is wrong; ``unittest.SkipTest`` where this machine cannot
        check it.

    Raises
    ------
    ValueError
        If there are fewer than seven samples, or no such topic.

    See Also
    --------
    sklexplain.testing.parametrize_nd_checks : As tests of pytest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.nets import Autoencoder
    >>> from sklexplain.testing.estimator_checks import nd_checks
    >>> X = np.random.RandomState(0).normal(size=(9, 2, 6))
    >>> checks = list(nd_checks(Autoencoder(max_epochs=1, patience=1, random_state=0), X))
    >>> len(checks)
    35
    """
    if len(X) < 7:
        raise ValueError(f"X has {len(X)} samples; the checks need at least 7.")
    for check in _checks_of(topics):
        yield partial(check, estimator, X, y)


def _checks_of(topics):
    unknown = sorted(set(topics) - set(TOPICS))
    if unknown:
        raise ValueError(f"topics has {unknown}; there are {list(TOPICS)}.")
    return [check for topic in topics for check in _TOPICS[topic]]


def parametrize_nd_checks(
    cases: Sequence[Any] | dict[str, Any],
    expected_failed_checks: Callable[..., dict[str, str]] | None = None,
    *,
    topics: Sequence[str] = TOPICS,
) -> Any:
    """Pytest decorator that runs every check on every case.

    Parameters
    ----------
    cases : list or dict of str to case
        A case is (estimator, X) or (estimator, X, y), see `nd_checks`, or a function without
        arguments that returns it when a test runs. The keys of a dict name the tests.
    expected_failed_checks : callable, default=None
        Function of an estimator that returns a dict of names of checks to the reason why they fail,
        as for scikit-learn's `parametrize_with_checks`. A check that passes in spite of it is a
        failure.
    topics : sequence of str, default=TOPICS
        See `nd_checks`.

    Returns
    -------
    decorator : pytest.MarkDecorator
        Of a test function that takes ``check`` and calls it.

    See Also
    --------
    sklexplain.testing.nd_checks : The checks one by one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.nets import Autoencoder
    >>> from sklexplain.testing import parametrize_nd_checks
    >>> X = np.random.RandomState(0).normal(size=(9, 2, 6))
    >>> cases = {"series": (Autoencoder(max_epochs=1, patience=1, random_state=0), X)}
    >>> @parametrize_nd_checks(cases, topics=["parameters"])
    ... def test_autoencoder(check):
    ...     check()
    """
    import pytest

    params = []
    named = cases.items() if isinstance(cases, dict) else enumerate(cases)
    for name, case in named:
        label = str(name)
        if not callable(case):
            label = f"{name}-{type(case[0]).__name__}-{case[1].ndim}d"
        for check in _checks_of(topics):
            run = partial(_run, check, case, expected_failed_checks)
            params.append(pytest.param(run, id=f"{label}-{check.__name__}"))
    return pytest.mark.parametrize("check", params)


def _run(check, case, expected_failed_checks):
    import pytest

    estimator, X, y = (*(case() if callable(case) else case), None)[:3]
    if len(X) < 7:
        raise ValueError(f"X has {len(X)} samples; the checks need at least 7.")
    expected = {} if expected_failed_checks is None else expected_failed_checks(estimator)
    reason = expected.get(check.__name__)
    try:
        check(estimator, X, y)
    except Exception:
        if reason is None:
            raise
        pytest.xfail(reason)
    if reason is not None:
        pytest.fail(f"{check.__name__} passes, but was expected to fail: {reason}")
