"""Seeds."""

import numpy as np
from sklearn.utils import check_random_state


def draw_seed(random_state):
    """Draw a seed without touching numpy's global generator.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        None gives another seed every time; an instance moves on by one draw.

    Returns
    -------
    seed : int
        Between 0 and 2**31 - 2.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))
