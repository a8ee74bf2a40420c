"""How parts of a score are combined."""


def harmonic_mean(a, b):
    """Harmonic mean of two numbers, 0 if one of them is not positive, NaN if one is not known."""
    if a != a or b != b:
        return float("nan")
    return float(2 * a * b / (a + b)) if min(a, b) > 0 else 0.0
