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
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import SimplExImportance
    >>> from sklexplain.exceptions import ConvergenceWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> simplex = SimplExImportance(PCA(2), max_iter=1).fit(X)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = simplex.transform(X / 3)
    >>> [warning.category for warning in caught] == [ConvergenceWarning]
    True
    """


class DataConversionWarning(SklexplainWarning, exceptions.DataConversionWarning):
    """X loses digits that matter when it is given the network's dtype.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from torch import nn
    >>> from sklexplain import DKNNImportance
    >>> from sklexplain.exceptions import DataConversionWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = DKNNImportance(nn.Linear(3, 2)).fit(X + 1e8)
    >>> [warning.category for warning in caught] == [DataConversionWarning]
    True
    """


class UndefinedMetricWarning(SklexplainWarning, exceptions.UndefinedMetricWarning):
    """A measure is not defined for what it was given, and NaN.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LatentSurrogate
    >>> from sklexplain.exceptions import UndefinedMetricWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> surrogate = LatentSurrogate(PCA(2), random_state=0).fit(X)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = surrogate.unit_scores(X[:1])
    >>> [warning.category for warning in caught] == [UndefinedMetricWarning]
    True
    """


class ChangedModelWarning(SklexplainWarning):
    """The network's weights are not those that the explainer was fitted with.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from torch import nn
    >>> from sklexplain import DKNNImportance
    >>> from sklexplain.exceptions import ChangedModelWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> net = nn.Linear(3, 2)
    >>> dknn = DKNNImportance(net).fit(X)
    >>> net.weight.data *= 2  # as more training would
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = dknn.transform(X)
    >>> [warning.category for warning in caught] == [ChangedModelWarning]
    True
    """


class FewValuesWarning(SklexplainWarning):
    """What is explained takes few different values, so many changes of a sample change nothing.

    See Also
    --------
    sklexplain.exceptions.UnreachedInputWarning : Another reason why changes change nothing.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.exceptions import FewValuesWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> tree = DecisionTreeClassifier(max_depth=1).fit(X, X[:, 0] > 0)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = LabelFreeAttributor(tree, method="feature_ablation").fit(X)
    >>> [warning.category for warning in caught] == [FewValuesWarning]
    True
    """


class RandomModelWarning(SklexplainWarning):
    """The model draws random numbers or compares samples: its output is no function of one.

    See Also
    --------
    sklexplain.exceptions.SklexplainWarning : The base of all.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from torch import nn
    >>> from sklexplain import DKNNImportance
    >>> from sklexplain.exceptions import RandomModelWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> class Noisy(nn.Module):
    ...     def forward(self, x):
    ...         return nn.functional.dropout(x)  # whatever the mode
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = DKNNImportance(Noisy()).fit(X)
    >>> [warning.category for warning in caught] == [RandomModelWarning]
    True
    """


class UnreachedInputWarning(SklexplainWarning):
    """Inputs that the output depends on have no gradient.

    See Also
    --------
    sklexplain.exceptions.FewValuesWarning : Another reason why changes change nothing.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> import torch
    >>> from torch import nn
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.exceptions import UnreachedInputWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> class Rounding(nn.Module):
    ...     def forward(self, x):
    ...         return torch.cat([x[:, :1], x[:, 1:].round()], dim=1)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = LabelFreeAttributor(Rounding()).fit(X)
    >>> [warning.category for warning in caught] == [UnreachedInputWarning]
    True
    """


class WrongGradientRuleWarning(SklexplainWarning):
    """A registered gradient rule gives other gradients than backpropagation, and is not used.

    See Also
    --------
    sklexplain.extending.register_gradient_rule : Registers rules.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> import torch
    >>> from torch import nn
    >>> from sklexplain import TracInImportance
    >>> from sklexplain.extending import register_gradient_rule
    >>> from sklexplain.exceptions import WrongGradientRuleWarning
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> class Gains(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gain = nn.Parameter(torch.ones(3))
    ...
    ...     def forward(self, x):
    ...         return x * self.gain
    >>> autoencoder = nn.Sequential(Gains(), nn.Linear(3, 3))
    >>> registration = register_gradient_rule(Gains, lambda layer, x, grad: {"gain": 2 * x * grad})
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = TracInImportance(autoencoder, parameters="all").fit(X)
    >>> [warning.category for warning in caught] == [WrongGradientRuleWarning]
    True
    >>> registration.remove()
    """
