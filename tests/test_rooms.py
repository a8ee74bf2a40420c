"""The rooms of the house: none imports up, and each is entered through its face.

A room is a folder or a file right below ``sklexplain``. Its face is what its ``__init__`` offers;
files and names with a leading underscore are its own.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

import sklexplain

PACKAGE = Path(sklexplain.__file__).parent
TESTS = Path(__file__).parent

# From the ground up. Rooms on one floor do not import each other.
FLOORS = [
    {"exceptions", "__version__"},
    {"utils"},
    {"layers", "explaining", "datasets", "reading"},
    {"gradients", "representation"},
    {"training", "samples", "testing", "extending", "base_dask", "base_door"},
    {"base"},
    {"base_attributor"},
    {"anomalies", "attribution", "concepts", "decoding", "examples", "scores", "surrogates"},
    {"nets"},
    {"metrics", "plotting"},
    {"report"},
    {"__init__", "__main__"},
]

# (file, room or file that it imports): why it may.
EXCEPTIONS = {
    ("utils/__init__.py", "training"): "lazy alias of a public name that has moved up",
    ("utils/estimator_checks.py", "testing"): "lazy alias of public names that have moved up",
}


@cache
def nodes(path):
    """All nodes of a file's syntax tree; several tests look at each file."""
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path, package):
    """Yield the line and the parts of every module below sklexplain that a file imports.

    A name that is imported from a package may be a module of it, so it is among the parts.
    """
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "sklexplain":
                    yield node.lineno, parts[1:]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            if base[:1] == ["sklexplain"]:
                for alias in node.names:
                    yield node.lineno, [*base[1:], alias.name]


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def ties():
    """Yield (file, line, its room, the parts it imports) for every import across rooms."""
    for path in sorted(PACKAGE.rglob("*.py")):
        package = ("sklexplain", *path.relative_to(PACKAGE).parent.parts)
        for line, parts in imports(path, package):
            if parts and parts[0] != room_of(path):
                yield path.relative_to(PACKAGE).as_posix(), line, room_of(path), parts


def is_private(parts):
    return any(p.startswith("_") and not p.startswith("__") for p in parts[1:])


def is_exception(file, parts):
    return any((file, ".".join(parts[:n])) in EXCEPTIONS for n in range(1, len(parts) + 1))


def floor(room):
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms <= set().union(*FLOORS)


def test_no_room_imports_up():
    found = [
        f"{file}:{line} imports {'.'.join(parts)}"
        for file, line, room, parts in ties()
        if floor(parts[0]) >= floor(room) and not is_exception(file, parts)
    ]
    assert not found, "\n".join(found)


def test_no_circle():
    graph = {}
    for file, _, room, parts in ties():
        if not is_exception(file, parts):
            graph.setdefault(room, set()).add(parts[0])

    def walk(room, path):
        assert room not in path, f"a circle: {' -> '.join([*path, room])}"
        for other in graph.get(room, ()):
            walk(other, [*path, room])

    for room in graph:
        walk(room, [])


def test_rooms_are_entered_through_their_face():
    found = [
        f"{file}:{line} imports {'.'.join(parts)}"
        for file, line, _, parts in ties()
        if is_private(parts) and not is_exception(file, parts)
    ]
    assert not found, "\n".join(found)


def test_faces_offer_what_is_imported():
    """A name that a face does not list could go without notice."""
    for file, line, _, parts in ties():
        if is_exception(file, parts) or len(parts) != 2:
            continue
        face = PACKAGE / parts[0] / "__init__.py"
        if face.exists() and parts[0] != "__version__":
            room = __import__(f"sklexplain.{parts[0]}", fromlist=["_"])
            assert hasattr(room, parts[1]), f"{file}:{line}: {parts[0]} has no {parts[1]}"


def test_exceptions_are_needed():
    files = {(file, ".".join(parts[:n])) for file, _, _, parts in ties() for n in range(1, 4)}
    assert EXCEPTIONS.keys() <= files


@pytest.mark.parametrize("folder", [p.name for p in sorted(TESTS.iterdir()) if p.is_dir()])
def test_tests_know_the_inside_of_their_room_only(folder):
    """Private files of a room are imported, or patched by their path, in its own tests only."""
    found = []
    for path in sorted((TESTS / folder).rglob("*.py")):
        package = ("tests", *path.relative_to(TESTS).parent.parts)
        names = [(line, parts) for line, parts in imports(path, package) if parts]
        names += list(_paths_in_strings(path))
        found += [
            f"{path.relative_to(TESTS)}:{line} knows {'.'.join(parts)}"
            for line, parts in names
            if is_private(parts) and parts[0] != folder
        ]
    assert not found, "\n".join(found)


def test_tests_of_the_whole_use_faces():
    for path in sorted(TESTS.glob("*.py")):
        for line, parts in imports(path, ("tests",)):
            assert not is_private(parts), f"{path.name}:{line} knows {'.'.join(parts)}"


def _paths_in_strings(path):
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = node.value.split(".")
            if parts[0] == "sklexplain" and all(p.isidentifier() for p in parts):
                yield node.lineno, parts[1:]
