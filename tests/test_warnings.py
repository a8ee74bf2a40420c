"""Which warnings fail a test: our own, and those our code causes."""

import warnings

import pytest

from sklexplain.exceptions import ConvergenceWarning, SklexplainWarning


def warn_in(module, category):
    warnings.warn_explicit("artificial", category, f"{module}.py", 1, module=module)


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["scipy.linalg", "sklearn.base", "sklexplain_of_others"])
def test_warnings_of_others_do_not_fail(module, category):
    with warnings.catch_warnings(record=True) as caught:  # the filters stay as they are
        warn_in(module, category)
    assert [w.category for w in caught] == [category]


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["sklexplain", "sklexplain.layers._maps", "tests.cases"])
def test_warnings_at_our_lines_fail(module, category):
    with pytest.raises(category, match="artificial"):
        warn_in(module, category)


@pytest.mark.parametrize("category", [SklexplainWarning, ConvergenceWarning])
def test_our_own_warnings_fail_wherever_they_point(category):
    with pytest.raises(category, match="artificial"):
        warn_in("file_of_a_user", category)
