"""Methods that an estimator has and that raise as soon as they are called."""

from ._offers import offered_method, offers_of
from ._representation import Representation
from ._resolve import unwrap


def represent(estimator, n_columns, *, X, response_method="auto", **params):
    """Make a representation by the first of the methods asked for that works.

    A method may exist and need what the estimator was not given, as ``predict_proba`` does of some
    support vector machines without ``probability=True``, or ``transform`` of a discriminant
    analysis by least squares: only a call shows it.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        What is explained.
    n_columns : int
        Number of columns of X.
    X : ndarray or DataFrame of shape (n, ...)
        Samples, of which a few are run.
    response_method : str or list of str, default="auto"
        See `offered_method`; of ``"auto"`` and of a list the next one is tried.
    **params : object
        More arguments of `Representation`.

    Returns
    -------
    representation : Representation
        Its ``probe.offered`` names the method if another one failed.

    Raises
    ------
    Exception
        If no method works, what the first one raised.
    """
    first, failed = None, []
    wanted = response_method
    while True:
        try:
            return Representation(
                estimator, n_columns, X=X, response_method=wanted, fallback=bool(failed), **params
            )
        except (AttributeError, NotImplementedError) as error:
            first = first or error
            method = getattr(error, "method_called", None)
            if method is None or method in failed:
                raise first from None
            failed.append(method)
        model = unwrap(estimator)
        offers = offers_of(model) if response_method == "auto" else response_method
        wanted = [name for name in offers if name not in failed]
        if isinstance(response_method, str) and response_method != "auto":
            raise first
        try:
            wanted = offered_method(model, wanted)
        except (TypeError, ValueError):
            raise first from None
