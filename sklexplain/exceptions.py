"""The warnings of the library, so that a filter can name them.

Each is scikit-learn's own class where there is one for its kind; all are `SklexplainWarning`:

>>> import warnings
>>> from sklexplain.exceptions import SklexplainWarning
>>> warnings.simplefilter("always", SklexplainWarning)
"""

from sklearn import exceptions

__all__ = [
    "ChangedModelWarning",
    "ConvergenceWarning",
    "DataConversionWarning",
    "FewValuesWarning",
    "RandomModelWarning",
    "SklexplainWarning",
    "UndefinedMetricWarning",
    "UnreachedInputWarning",
    "WrongGradientRuleWarning",
]


class SklexplainWarning(UserWarning):
    """A result is not what it could be taken for; the base of all warnings of the library.

    See Also
    --------
    sklexplain.exceptions.ConvergenceWarning : One of them.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import SklexplainWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", SklexplainWarning)
    """


class ConvergenceWarning(SklexplainWarning, exceptions.ConvergenceWarning):
    """A number has not converged: more steps, epochs or samples would change it.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import ConvergenceWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", ConvergenceWarning)
    """


class DataConversionWarning(SklexplainWarning, exceptions.DataConversionWarning):
    """X loses digits that matter when it is given the network's dtype.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import DataConversionWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DataConversionWarning)
    """


class UndefinedMetricWarning(SklexplainWarning, exceptions.UndefinedMetricWarning):
    """A measure is not defined for what it was given, and NaN.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import UndefinedMetricWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", UndefinedMetricWarning)
    """


class ChangedModelWarning(SklexplainWarning):
    """The network's weights are not those that the explainer was fitted with.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import ChangedModelWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", ChangedModelWarning)
    """


class FewValuesWarning(SklexplainWarning):
    """What is explained takes few different values, so many changes of a sample change nothing.

    See Also
    --------
    sklexplain.exceptions.UnreachedInputWarning : Another reason why changes change nothing.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import FewValuesWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", FewValuesWarning)
    """


class RandomModelWarning(SklexplainWarning):
    """The model draws random numbers or compares samples: its output is no function of one.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import RandomModelWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", RandomModelWarning)
    """


class UnreachedInputWarning(SklexplainWarning):
    """Inputs that the output depends on have no gradient.

    See Also
    --------
    sklexplain.exceptions.FewValuesWarning : Another reason why changes change nothing.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import UnreachedInputWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", UnreachedInputWarning)
    """


class WrongGradientRuleWarning(SklexplainWarning):
    """A registered gradient rule gives other gradients than backpropagation, and is not used.

    See Also
    --------
    sklexplain.extending.register_gradient_rule : Registers rules.

    Examples
    --------
    >>> import warnings
    >>> from sklexplain.exceptions import WrongGradientRuleWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", WrongGradientRuleWarning)
    """
