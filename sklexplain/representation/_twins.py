"""Twins of modules: objects that share a module's weights and own everything else.

`Maker.rebuild` walks from the root modules through all that they hold, and makes a twin of each
object by its type (`_MAKERS`): modules, tensors, containers, bound methods, partial functions, weak
references and generators. Objects that lead to no module are kept as they are. A table from
originals to twins (`Maker.memo`) keeps shared parts shared and ends cycles. Weights are not copied:
their twins have the same storage, require no gradient, and follow whatever the user does to them.

`Watch` remembers which objects the containers of the originals held, so that a view can tell
quickly whether it still matches.

Names of torch that are not documented, each with a test in ``test_views.py``; where one is missing
the code does without: ``Module._compiled_call_impl``, ``OptimizedModule._orig_mod``,
``_torchdynamo_orig_callable`` of compiled functions, ``_WrappedHook``, ``use_nested_tensor`` of
`TransformerEncoder` and ``torch._foreach_copy_``. The dictionaries of `Module` (``_parameters``,
``_forward_hooks``, ...) and ``RNNBase._flat_weights`` are not named: all a module holds is rebuilt.
"""

import collections
import copy
import functools
import itertools
import operator
import types
import weakref

import numpy as np
import torch
from torch import nn

from ..layers import can_be_passed_over, wrapped

PLAIN = (bool, int, float, complex, str, bytes, type(None))
_ATOMS = frozenset((*PLAIN, type, torch.dtype, torch.device, torch.Size, slice, range))
_MUTABLE = (dict, list, set, collections.deque)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_ENCODERS = (nn.TransformerEncoderLayer, nn.TransformerEncoder)


class Watch:
    """The contents of some containers, compared object by object at the speed of C."""

    def __init__(self, containers, attributes):
        self._arguments = (containers, attributes)
        self._empty = [container for container in containers if not container]
        self._full = [container for container in containers if container]
        self._saved = [_frozen_copy(container) for container in self._full]
        # These are live: iterating over them later gives the contents at that time.
        self._live = [c.values() if isinstance(c, dict) else c for c in self._full]
        # Names of attributes are left out: there are many, and they do not change.
        self._live += [
            c.keys() for c in self._full if isinstance(c, dict) and id(c) not in attributes
        ]
        self._lengths = [*map(len, self._live)]
        self._contents = [*itertools.chain.from_iterable(self._live)]

    def same(self):
        """Whether every container still holds the very same objects."""
        try:
            now = itertools.chain.from_iterable(self._live)
            return (
                not any(self._empty)
                and [*map(len, self._live)] == self._lengths
                and all(map(operator.is_, now, self._contents))
            )
        except RuntimeError:  # changed by another thread while it was looked at
            return False

    def changed(self):
        """Pairs of a container that has changed and its former contents."""
        yield from ((container, ()) for container in self._empty if container)
        for container, saved in zip(self._full, self._saved, strict=True):
            now = _frozen_copy(container)
            same = len(now) == len(saved)
            if isinstance(container, dict):
                same = same and now.keys() == saved.keys()
                same = same and all(map(operator.is_, now.values(), saved.values()))
            if not same or not (isinstance(now, dict) or all(map(operator.is_, now, saved))):
                yield container, saved

    def again(self):
        """Watch the same containers from their present contents on."""
        return Watch(*self._arguments)


def _frozen_copy(container):
    return dict(container) if isinstance(container, dict) else tuple(container)


def refill(container, contents):
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(contents)
    else:
        container.extend(contents)


class _Handing(nn.Module):
    """Stands for a wrapper that hands on to the network inside, for the sake of its hooks."""

    hands_on_to = "inside"

    def forward(self, *args, **kwargs):
        return self.inside(*args, **kwargs)


class Maker:
    """Makes the twins of one view, and remembers which twin belongs to which original."""

    def __init__(self, roots):
        self.memo = {}  # id of an original: its twin
        self.originals = []  # kept alive, as their ids are keys
        self.modules = []  # pairs of an original module and its twin
        self.containers = []  # pairs of an original container and its twin
        self.parameters = []
        self.copies = {}  # id of an original tensor: [original, twin]
        self.generators = []
        self.shared = set()  # ids of the tensors found in several places
        self.problems = []
        self.members = {}  # slots of classes
        self.filled = []  # slots with something in them, and what
        self.custom = [
            m
            for root in roots
            for m in root.modules()
            if not isinstance(m, torch.jit.ScriptModule) and _is_custom(type(m))
        ]
        self.owned = {id(part) for m in self.custom for part in m.modules()}
        self.owned_weights = {id(p) for m in self.custom for p in m.parameters()}

    def remember(self, original, twin):
        self.memo[id(original)] = twin
        self.originals.append(original)
        return twin

    def rebuild(self, value):
        """Twin of anything that a module holds; the value itself if it leads to no module."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        known = self.memo.get(id(value))
        if known is not None:
            if isinstance(value, torch.Tensor):
                self.shared.add(id(value))
            return known
        # By the type: a weak proxy would pass for the module it stands for.
        for kinds, make in _MAKERS:
            if issubclass(kind, kinds):
                return make(self, value)
        if kind.__name__ == "_WrappedHook" and kind.__module__.startswith("torch."):
            return self.attributes(value)
        return value

    def module(self, original):
        kind = type(original)
        inside = wrapped(original)
        if inside is not None and can_be_passed_over(original):
            return self.passed_over(original, inside)
        if isinstance(original, torch.jit.ScriptModule):
            return self.remember(original, original)  # `escapes` names it
        try:
            twin = object.__new__(kind)  # not kind.__new__: GraphModule's makes a new class
        except TypeError as error:
            self.problems.append(f"{kind.__name__}: {error}")
            return self.remember(original, original)
        self.remember(original, twin)
        self.modules.append((original, twin))
        theirs, ours = vars_of(original), vars_of(twin)
        for name, value in dict(theirs).items():
            if name == "training":
                value = value if id(original) in self.owned else False
            elif name == "_compiled_call_impl":
                value = None
            elif name not in ("_trainer", "_fabric"):  # Lightning's, never run by forward
                value = self.rebuild(value)
            ours[name] = value
        self.containers.append((theirs, ours))
        self.slots(original, twin)
        return twin

    def passed_over(self, wrapper, inside):
        """Twin of the network inside a wrapper, with hooks that the wrapper has of its own."""
        attributes = vars_of(wrapper)
        hooks = {n: attributes[n] for n in _HOOKS if attributes.get(n)}
        if not hooks:
            return self.remember(wrapper, self.rebuild(inside))
        twin = self.remember(wrapper, _Handing())
        self.modules.append((wrapper, twin))
        twin.inside = self.rebuild(inside)
        for name in attributes:
            if "_hooks" in name:
                vars_of(twin)[name] = self.rebuild(attributes[name])
        return twin

    def slots(self, original, twin):
        kind = type(original)
        if kind not in self.members:
            attributes = (value for base in kind.__mro__ for value in vars(base).values())
            self.members[kind] = [
                a for a in attributes if isinstance(a, types.MemberDescriptorType)
            ]
        for member in self.members[kind]:
            try:
                value = member.__get__(original)
            except AttributeError:  # empty
                continue
            ours = self.rebuild(value)
            member.__set__(twin, ours)
            self.filled.append((member, original, value, twin, ours))

    def tensor(self, original):
        if isinstance(original, nn.parameter.UninitializedTensorMixin):
            raise ValueError(
                "the network has lazy layers that have not been run yet, so they have no weights; "
                "run it once on a batch."
            )
        # A weight held in a list, not registered, is a weight too.
        is_weight = isinstance(original, nn.Parameter)
        try:
            twin = original.detach()
            if not is_weight or id(original) in self.owned_weights:
                twin = twin.clone()
            if type(original) is nn.Parameter:
                twin = nn.Parameter(twin, requires_grad=False)
            elif type(twin) is not type(original):
                twin = twin.as_subclass(type(original))
        except (RuntimeError, NotImplementedError) as error:  # not all kinds can do all of it
            self.problems.append(f"a tensor cannot be copied: {error}")
            return original
        self.remember(original, twin)
        if is_weight:
            self.parameters.append((original, twin))
        else:
            self.copies[id(original)] = [original, twin]
        for name, value in getattr(original, "__dict__", {}).items():
            setattr(twin, name, self.rebuild(value))
        return twin

    def container(self, original):
        kind = type(original)
        if kind in (dict, list, set, collections.OrderedDict):
            twin = kind()
        else:  # keeps what a subclass adds, a default or a longest length
            twin = self.emptied(original)
            if twin is None:
                return original
        self.remember(original, twin)
        if isinstance(original, dict):
            for key, value in dict(original).items():
                twin[self.rebuild(key)] = self.rebuild(value)
        else:
            refill(twin, [self.rebuild(item) for item in tuple(original)])
        self.containers.append((original, twin))
        return twin

    def emptied(self, original):
        try:
            twin = copy.copy(original)
            twin.clear()
            return twin
        except Exception as error:  # of the user's own class
            self.problems.append(f"{type(original).__name__} cannot be copied: {error}")
            return None

    def fixed(self, original):
        """Make another tuple or frozenset, if anything in it is rebuilt."""
        items = [self.rebuild(item) for item in original]
        if all(map(operator.is_, items, original)):
            return original
        kind = type(original)
        return self.remember(original, kind._make(items) if hasattr(kind, "_make") else kind(items))

    def method(self, original):
        owner = self.rebuild(original.__self__)
        function = self.rebuild(original.__func__)
        if owner is original.__self__ and function is original.__func__:
            return original
        return self.remember(original, types.MethodType(function, owner))

    def partial(self, original):
        parts = (original.func, original.args, dict(original.keywords), vars(original))
        function, args, keywords, attributes = (self.rebuild(part) for part in parts)
        twin = type(original)(function, *args, **keywords)
        vars(twin).update(attributes)
        return self.remember(original, twin)

    def function(self, original):
        """Look through a compiled function that runs on a module; others are kept."""
        inner = vars(original).get("_torchdynamo_orig_callable")
        twin = inner if inner is None else self.rebuild(inner)
        return original if twin is inner else self.remember(original, twin)

    def weak(self, original):
        target = original()
        if not isinstance(target, (nn.Module, torch.Tensor)):
            return original
        return self.remember(original, weakref.ref(self.rebuild(target)))

    def proxy(self, original):
        if not isinstance(original, nn.Module):
            return original
        module = original.__dir__.__self__  # the bound method knows what the proxy stands for
        return self.remember(original, weakref.proxy(self.rebuild(module)))

    def generator(self, original):
        if isinstance(original, torch.Generator):
            twin = torch.Generator(original.device)
        elif isinstance(original, np.random.Generator):
            twin = copy.deepcopy(original)
        else:
            twin = np.random.RandomState()
        self.generators.append((original, twin))
        return self.remember(original, follow_generator(original, twin))

    def attributes(self, original):
        twin = object.__new__(type(original))
        self.remember(original, twin)
        vars(twin).update((name, self.rebuild(v)) for name, v in vars(original).items())
        return twin

    def finish(self):
        """Put all twins in eval mode, by their own method if they have one; no fast path."""
        done = set()
        for module in self.custom:  # outer ones first, and they switch what is in them
            twin = self.memo.get(id(module))
            if twin is not None and id(module) not in done:
                done.update(map(id, module.modules()))
                try:
                    twin.eval()
                except Exception as error:
                    self.problems.append(f"{type(module).__name__}.eval(): {error}")
        for _, twin in self.modules:
            if "training" in vars(twin):
                vars(twin)["training"] = False
            if isinstance(twin, _ENCODERS):
                nn.Module.register_forward_hook(twin, _nothing)
                # Else it packs padded samples for layers whose fast path is off.
                vars(twin)["use_nested_tensor"] = False


_MAKERS = (
    (nn.Module, Maker.module),
    (torch.Tensor, Maker.tensor),
    (_MUTABLE, Maker.container),
    ((tuple, frozenset), Maker.fixed),
    (types.MethodType, Maker.method),
    (types.FunctionType, Maker.function),
    (functools.partial, Maker.partial),
    (weakref.ReferenceType, Maker.weak),
    (weakref.ProxyTypes, Maker.proxy),
    ((torch.Generator, np.random.Generator, np.random.RandomState), Maker.generator),
)


def _is_custom(kind):
    """Whether eval mode is more than a flag for a class: adapters are merged, layers folded."""
    return kind.train is not nn.Module.train or kind.eval is not nn.Module.eval


def vars_of(module):
    """Attributes of a module, bypassing whatever its class does on attribute access."""
    return object.__getattribute__(module, "__dict__")


def _nothing(*_):
    """Do nothing: a hook, which keeps attention off its fast path."""


def follow_generator(original, twin):
    if isinstance(original, np.random.Generator):
        twin.bit_generator.state = original.bit_generator.state
    else:
        twin.set_state(original.get_state())
    return twin
