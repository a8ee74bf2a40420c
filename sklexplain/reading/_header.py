"""Whether the first row of a text file holds names or is a sample."""

MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "-nan", "#n/a", "<na>", "#na", "nil", "-", ".")
)
_YEARS = (1800, 2100)
_SURE = 6  # numbers that go up by equal steps: of fewer, a sample's may
_SAY_NAMES = " (that is not sure: --header if the first row holds names)"
_SAY_SAMPLE = " (that is not sure: --no-header if the first row is a sample)"


def guess_header(rows, is_number, named=()):
    """Tell whether the first row holds names: where others have numbers, it has none.

    Parameters
    ----------
    rows : list of list of str
        Fields of the first rows.
    is_number : callable
        Tells whether a field is a number, or missing.
    named : sequence of str, default=()
        Columns that the user names.

    Returns
    -------
    has_header : bool
    doubt : str or None
        What to say if neither is sure.
    """
    first, others = rows[0], rows[1:]
    texts = {field for field in first if not is_number(field)}
    # A number may be meant as a position; the user is asked then.
    if not others or not texts.isdisjoint(named):
        return True, None
    columns = [[row[j] for row in others] for j in range(len(first))]
    numeric = [
        j
        for j, column in enumerate(columns)
        if all(map(is_number, column)) and any(field.lower() not in MISSING for field in column)
    ]
    if any(not is_number(first[j]) for j in numeric):
        return True, None
    known = [j for j in range(len(first)) if j not in numeric and first[j] in texts]
    seen = [first[j] in columns[j] for j in known]
    if not numeric:
        # What a column is called is hardly ever one of its own values.
        return not (known and all(seen)), None
    if any(seen):
        return False, None
    odd = [_stands_out(first[j], columns[j]) for j in known]
    numbers = [first[j] for j in numeric if first[j]]
    cells = [[row[j] for j in numeric] for row in others[:20]]
    steps = _count_up(numbers) and not _count_up(cells[0])
    like_names = steps or (_are_years(numbers) and not any(map(_are_years, cells)))
    unlike = _are_whole_unlike(numbers, cells)
    if max(odd, default=0) == 2 and all(field.isdecimal() for field in numbers):
        return True, None if like_names or unlike else _SAY_SAMPLE
    if like_names:
        return True, None if steps and len(numbers) >= _SURE else _SAY_SAMPLE
    # A sample may be the only one of its kind.
    return False, _SAY_NAMES if any(odd) or unlike else None


def _stands_out(field, column):
    """Say how sure it is that a text is no value of its column: 2 surely, 1 perhaps, 0 not."""
    counts = {}
    for value in column:
        counts[value] = counts.get(value, 0) + 1
    if field in counts or 4 * len(counts) > len(column):
        return 0  # where most values are different, one more tells nothing
    return 2 if min(counts.values()) > 1 else 1


def _count_up(fields):
    """Tell whether numbers go up by equal steps, as times or positions do."""
    values = _numbers(fields)
    if values is None or len(values) < 3:
        return False
    steps = [b - a for a, b in zip(values, values[1:], strict=False)]
    mean = (values[-1] - values[0]) / len(steps)
    return mean > 0 and all(abs(step - mean) <= 0.51 * mean for step in steps)


def _are_years(fields):
    """Tell whether numbers may be years, one after the other."""
    if len(fields) < 2 or not all(len(field) == 4 and field.isdecimal() for field in fields):
        return False
    values = [int(field) for field in fields]
    in_order = all(a < b for a, b in zip(values, values[1:], strict=False))
    return in_order and values[0] >= _YEARS[0] and values[-1] <= _YEARS[1]


def _are_whole_unlike(fields, cells):
    """Tell whether numbers are whole and go up where the others in their columns have fractions."""
    if len(fields) < 2 or len(cells) < 2 or not all(field.isdecimal() for field in fields):
        return False
    values = [int(field) for field in fields]
    in_order = all(a < b for a, b in zip(values, values[1:], strict=False))
    return in_order and not any(field.isdecimal() for row in cells for field in row)


def _numbers(fields):
    try:
        return [float(field.replace(",", ".")) for field in fields]
    except ValueError:
        return None
