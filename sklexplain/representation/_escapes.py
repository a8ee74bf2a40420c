"""Parts of the original that a view of a network still reaches, found without running it."""

import collections
import dis
import functools
import sys
import types
import weakref

import numpy as np
import torch
from torch import nn

# Objects of these packages (loggers, optimizers, trainers) lead everywhere, but forward does not
# use them.
_NOT_WALKED = frozenset(
    ("torch", "torchvision", "numpy", "logging", "threading", "asyncio", "multiprocessing")
    + ("lightning", "pytorch_lightning", "lightning_fabric", "concurrent", "_thread", "builtins")
)
# Classes and functions of these packages hold no modules of the user.
_FOREIGN = (
    _NOT_WALKED
    | sys.stdlib_module_names
    | {
        *("scipy", "sklearn", "pandas", "skorch", "pytest", "_pytest", "pluggy"),
    }
)
_SKIPPED_NAMES = frozenset(("_trainer", "_fabric"))  # Lightning's: lead back, never in forward

# These run the original through objects that they have registered elsewhere.
_NOT_VIEWABLE = frozenset(("FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine"))
_LEAVES = (bool, int, float, complex, str, bytes, type(None), torch.Tensor, type)
_MOST = 200_000  # objects visited before giving up


def escapes(view):
    """Find everything that a view reaches beyond its own modules.

    Parameters
    ----------
    view : View
        Made by `view_of`.

    Returns
    -------
    reasons : list of str
        Why the view cannot stand for its original: each names a module that is not the view's and
        the attributes that lead to it, or a part that cannot be viewed. Empty: it can.
    """
    walk = _Walk(view.parts())
    for i, root in enumerate(view.modules):
        walk.push(root, f"modules[{i}]")
    walk.run()
    return [*view.problems, *walk.reasons]


class _Walk:
    """Objects still to be looked at, and those seen."""

    def __init__(self, parts):
        self.ours = {id(part) for part in parts}
        self.seen = {}  # id of an object: the object, so that no other gets its id
        self.todo = collections.deque()
        self.members = {}  # slots of classes
        self.reasons = []

    def push(self, value, path):
        if not isinstance(value, _LEAVES) and id(value) not in self.seen:
            self.seen[id(value)] = value
            self.todo.append((value, path))

    def run(self):
        while self.todo:
            if len(self.seen) > _MOST:
                self.reasons.append(f"more than {_MOST} objects hang on the network")
                return
            value, path = self.todo.popleft()
            self.look(value, path)

    def look(self, value, path):
        """Push everything that a value holds; report a module that is not the view's."""
        kind = type(value)
        if issubclass(kind, nn.Module):
            self.module(value, path)
            return
        for kinds, look in _LOOKS:
            if issubclass(kind, kinds):
                look(self, value, path)
                return
        if kind.__name__ == "_WrappedHook" or _root(kind) not in _NOT_WALKED:
            self.attributes(value, path)

    def module(self, value, path):
        kind = type(value)
        if isinstance(value, torch.jit.ScriptModule):
            self.reasons.append(f"{path} is a ScriptModule")
        elif id(value) not in self.ours:
            self.reasons.append(f"{path} is the {kind.__name__} of the original, or another's")
        else:
            known = _NOT_VIEWABLE.intersection(base.__name__ for base in kind.__mro__)
            self.reasons.extend(f"{path} is a {name}" for name in known)
            self.attributes(value, path)

    def attributes(self, value, path):
        held = getattr(value, "__dict__", None)
        for name, item in list(held.items()) if isinstance(held, dict) else ():
            if name not in _SKIPPED_NAMES:
                self.push(item, f"{path}.{name}")
        kind = type(value)
        if kind not in self.members:
            self.members[kind] = self.of_class(kind, path)
        for name, member in self.members[kind]:
            self.push(_slot(member, value), f"{path}.{name}")

    def of_class(self, kind, path):
        """Push what a class holds, the first time it is met, and return its slots."""
        slots = []
        for base in kind.__mro__:
            ours = _root(base) not in _FOREIGN
            for name, item in list(vars(base).items()):
                if isinstance(item, types.MemberDescriptorType):
                    slots.append((name, item))
                elif ours:
                    self.push(item, f"{path}.{name}")
        return slots

    def mapping(self, value, path):
        for key, item in list(value.items()):
            self.push(key, f"{path} (key)")
            self.push(item, f"{path}[{key!r}]" if isinstance(key, (str, int)) else f"{path}[...]")
        self.subclass(value, path)

    def sequence(self, value, path):
        for i, item in enumerate(list(value)):
            self.push(item, f"{path}[{i}]")
        self.subclass(value, path)

    def array(self, value, path):
        if value.dtype.hasobject:
            self.sequence(value.ravel().tolist(), path)

    def subclass(self, value, path):
        if getattr(value, "__dict__", None):
            self.attributes(value, path)

    def method(self, value, path):
        self.push(value.__self__, f"{path}.__self__")
        self.push(getattr(value, "__func__", None), path)

    def partial(self, value, path):
        for item in (value.func, value.args, value.keywords, vars(value)):
            self.push(item, path)

    def weak(self, value, path):
        self.push(value(), f"{path}()")

    def proxy(self, value, path):
        try:
            target = value.__dir__.__self__
        except (ReferenceError, AttributeError):
            return
        self.push(target, f"{path}()")

    def descriptor(self, value, path):
        for name in ("__func__", "__wrapped__", "fget", "fset", "func"):
            self.push(getattr(value, name, None), path)

    def function(self, value, path):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                self.push(cell.cell_contents, f"{path}.<{name}>")
            except ValueError:  # not filled yet
                continue
        for item in (value.__defaults__, value.__kwdefaults__, vars(value)):
            self.push(item, path)
        if (value.__module__ or "").partition(".")[0] in _FOREIGN:
            return
        looked_up, names = _names(value.__code__)
        for name in looked_up:
            self.named(value.__globals__.get(name), name, names, path)

    def named(self, item, name, names, path):
        """Push what a function finds under a name of its module, or in another of ours."""
        if isinstance(item, types.ModuleType):
            if item.__name__.partition(".")[0] not in _FOREIGN:
                for inner in names.intersection(vars(item)):
                    if not isinstance(vars(item)[inner], types.ModuleType):
                        self.push(vars(item)[inner], f"{path}.<{name}.{inner}>")
        else:
            self.push(item, f"{path}.<{name}>")


_LOOKS = (
    ((dict, types.MappingProxyType), _Walk.mapping),
    ((list, tuple, set, frozenset, collections.deque), _Walk.sequence),
    (np.ndarray, _Walk.array),
    ((types.MethodType, types.BuiltinMethodType), _Walk.method),
    (types.FunctionType, _Walk.function),
    (functools.partial, _Walk.partial),
    (weakref.ReferenceType, _Walk.weak),
    (weakref.ProxyTypes, _Walk.proxy),
    ((staticmethod, classmethod, property, functools.cached_property), _Walk.descriptor),
    (types.ModuleType, lambda *_: None),
)


_LOOK_UPS = ("LOAD_GLOBAL", "LOAD_NAME")


def _root(kind):
    return (kind.__module__ or "").partition(".")[0] if isinstance(kind.__module__, str) else ""


def _slot(member, value):
    try:
        return member.__get__(value)
    except AttributeError:
        return None


@functools.lru_cache(maxsize=10_000)
def _names(code):
    """Names that a function looks up, and all that it uses; those of functions in it, too."""
    looked_up = {i.argval for i in dis.get_instructions(code) if i.opname in _LOOK_UPS}
    names = set(code.co_names)  # of attributes, too
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names(constant)
            looked_up, names = looked_up | inner[0], names | inner[1]
    return looked_up, names
