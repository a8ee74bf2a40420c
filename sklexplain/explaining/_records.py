"""What a method of attribution is, as a record, and tables of such records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from ..utils import Registration


@dataclass(frozen=True)
class Setup:
    """Facts about the data from which a method is built.

    Attributes
    ----------
    n_references : int
        Number of baseline rows.
    players : ndarray of int
        Which player (feature) each entry of the network's inputs belongs to.
    n_players : int
        Number of players, including those to which no entry belongs.
    window_shape : tuple of int or None
        Shape that occlusion windows slide over; None: the players are the windows.
    noise_std : ndarray or None
        Standard deviation of SmoothGrad's noise for each entry.
    columns : ndarray of int or None
        Raw column of each entry behind preprocessing, which share its noise.
    n_columns : int or None
        Number of raw columns.
    basis : Basis or None
        Basis along time whose coefficients are attributed to; None: time steps are.

    See Also
    --------
    sklexplain.extending.Method : What is built from it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.extending import Setup
    >>> Setup(n_references=1, players=np.array([0, 0, 1]), n_players=2).basis is None
    True
    """

    n_references: int
    players: np.ndarray
    n_players: int
    window_shape: tuple | None = None
    noise_std: np.ndarray | None = None
    columns: np.ndarray | None = None
    n_columns: int | None = None
    basis: object = None


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes
    ----------
    name : str
        Name, as users write it.
    description : str
        One line on what it does.
    build : callable
        From parameters, a `Setup` and a random generator (None without a parameter ``n_samples``)
        to the function
        ``(encode, x, references, cotangents, block_rows, squares=None, signs=None, spread=None)
        -> maps`` of tensors, whose maps have shape (n, k, ...) or, without gradients, (n, k,
        n_players). See `path_gradients` for ``squares`` and ``signs``, ``Spread`` for the last.
    params : mapping
        Parameters with their defaults.
    needs_gradients : bool
        Whether it needs more than the network's output.
    follows_operations : bool
        Whether it follows the operations of a network, one by one.
    is_complete : bool
        Whether a sample's attributions sum to the change of the output.
    in_expectation : bool
        Whether they do so only on average over the draws.
    samples : bool
        Whether it draws at random, and fills ``spread`` with the standard errors of that. One with
        a parameter ``n_samples`` is given a generator in any case.
    in_raw_slope : bool
        Whether its maps are derivatives, in units of 1 over the input: the slopes, at the sample,
        of what stands in front of the network belong to them.
    uses_baseline : bool
        Whether it compares with a baseline.
    leaves_gaps : bool
        Whether features that no draw tells of are NaN.
    refined_by : str or None
        The parameter that makes a numerical error smaller if it is raised.
    shortfall : str
        What to do if attributions miss their sum and ``refined_by`` is None or does not help.

    See Also
    --------
    sklexplain.extending.register_method : Makes a method known by its name.
    sklexplain.extending.Setup : What a method is built from.

    Examples
    --------
    >>> from sklexplain.explaining import METHODS
    >>> METHODS["saliency"].needs_gradients, METHODS["kernel_shap"].needs_gradients
    (True, False)
    """

    name: str
    description: str
    build: Callable
    params: Mapping = field(default_factory=lambda: MappingProxyType({}))
    needs_gradients: bool = True
    follows_operations: bool = False
    is_complete: bool = False
    in_expectation: bool = False
    samples: bool = False
    in_raw_slope: bool = False
    uses_baseline: bool = True
    leaves_gaps: bool = False
    refined_by: str | None = None
    shortfall: str = ""


class Records(Mapping):
    """Records by name; those of a kind, of all that are there by now.

    Parameters
    ----------
    records : dict of str to Method
        All of them.
    belongs : callable
        From a record to whether it is of the kind.
    """

    def __init__(self, records, belongs):
        self._records, self._belongs = records, belongs

    def __getitem__(self, name):
        record = self._records.get(name)
        if record is None or not self._belongs(record):
            raise KeyError(
                f"there is no method {name!r}; one of your own has to be registered in every "
                "process: sklexplain.extending.register_method"
            )
        return record

    def __iter__(self):
        return (name for name, record in list(self._records.items()) if self._belongs(record))

    def __len__(self):
        return sum(1 for _ in self)

    def __repr__(self):
        return repr(dict(self))


def registered(table, record):
    """Add a record to a table, once its facts are seen to fit together.

    Parameters
    ----------
    table : dict of str to Method
        All records.
    record : Method
        The method.

    Returns
    -------
    registration : Registration

    Raises
    ------
    TypeError
        If it is no record.
    ValueError
        If its facts contradict each other, or there is a method of that name.
    """
    if not isinstance(record, Method):
        raise TypeError(f"record={record!r} must be a Method.")
    if not (isinstance(record.name, str) and record.name.isidentifier()):
        raise ValueError(
            f"name={record.name!r} must be a name as in Python: letters, digits and _."
        )
    if not callable(record.build):
        raise TypeError(f"build={record.build!r} must be callable.")
    if (record.samples or record.in_expectation) and "n_samples" not in record.params:
        raise ValueError(
            "a method that draws (samples, in_expectation) needs a parameter 'n_samples' in params."
        )
    if record.refined_by is not None and record.refined_by not in record.params:
        raise ValueError(
            f"refined_by={record.refined_by!r} is not in params={dict(record.params)}."
        )
    if record.is_complete and not record.shortfall:
        raise ValueError(
            "a complete method needs a shortfall: what to do if attributions miss their sum."
        )
    return Registration(table, record.name, record, f"method {record.name!r}")
