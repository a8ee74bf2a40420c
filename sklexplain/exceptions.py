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
    """A result is not what it could be taken for; the base of all warnings of the library."""


class ConvergenceWarning(SklexplainWarning, exceptions.ConvergenceWarning):
    """A number has not converged: more steps, epochs or samples would change it."""


class DataConversionWarning(SklexplainWarning, exceptions.DataConversionWarning):
    """X loses digits that matter when it is given the network's dtype."""


class UndefinedMetricWarning(SklexplainWarning, exceptions.UndefinedMetricWarning):
    """A measure is not defined for what it was given, and NaN."""


class ChangedModelWarning(SklexplainWarning):
    """The network's weights are not those that the explainer was fitted with."""


class FewValuesWarning(SklexplainWarning):
    """What is explained takes few different values, so many changes of a sample change nothing."""


class RandomModelWarning(SklexplainWarning):
    """The model draws random numbers or compares samples: its output is no function of one."""


class UnreachedInputWarning(SklexplainWarning):
    """Inputs that the output depends on have no gradient."""


class WrongGradientRuleWarning(SklexplainWarning):
    """A registered gradient rule gives other gradients than backpropagation, and is not used."""
