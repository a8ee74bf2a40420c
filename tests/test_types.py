"""The signatures of what users call have type hints, and these can be evaluated."""

import importlib
import inspect
import typing
from pathlib import Path

import pytest

import sklexplain

from .test_public_paths import PUBLIC

MODULES = {name: names for name, names in PUBLIC.items() if "utils" not in name}
MODULES |= {
    "sklexplain": [name for name in PUBLIC["sklexplain"] if name != "__version__"],
    "sklexplain.testing.estimator_checks": ["nd_checks", "parametrize_nd_checks"],
    "sklexplain.training": ["randomized_layers"],
    "sklexplain.utils": ["as_numpy3d"],
}


def public_functions(owner):
    """Yield the name and the function of all that a public class or function can be called by."""
    if not inspect.isclass(owner):
        yield owner.__qualname__, inspect.unwrap(owner)
        return
    for cls in owner.__mro__:
        if not cls.__module__.startswith("sklexplain"):
            continue
        for name, member in vars(cls).items():
            if name.startswith("_") and name != "__init__":
                continue
            function = getattr(member, "__func__", member)  # of a class method
            function = getattr(function, "fget", function)  # of a property
            function = getattr(function, "fn", function)  # of a method that not all have
            if inspect.isfunction(function):
                yield f"{cls.__qualname__}.{name}", inspect.unwrap(function)


@pytest.mark.parametrize("module", MODULES)
def test_public_signatures_have_type_hints(module):
    named = importlib.import_module(module)
    for name in MODULES[module]:
        for label, function in public_functions(getattr(named, name)):
            signature = inspect.signature(function)
            empty = [
                parameter.name
                for parameter in signature.parameters.values()
                if parameter.name not in ("self", "cls")
                and parameter.annotation is inspect.Parameter.empty
            ]
            assert not empty, f"{label}: {empty}"
            assert signature.return_annotation is not inspect.Signature.empty, label
            typing.get_type_hints(function)


def test_tools_are_told_of_the_hints():
    assert (Path(sklexplain.__file__).parent / "py.typed").exists()
