"""Views of networks: their own module objects around shared weights, run in the user's stead.

An explainer must run a network in eval mode, with hooks, and without gradients of the weights. Were
that done to the user's network, another thread that trains it would see it, and so would everybody
after an interrupt. A view is therefore a second set of module objects that shares the storage of
the parameters and owns everything else: modes, flags, hooks, buffers, containers and generators.
Running a view, or stopping half-way, leaves the original as it was.

* `view_of` makes a view; `Maker` in ``_twins.py`` rebuilds the modules.
* `escapes` in ``_escapes.py`` walks over a view and reports whatever in it still leads to the
  original. If anything does, the network cannot be viewed and is run itself, under a lock.
* `Pool` lends each running call a view of its own. Before a view is lent again it is brought up
  to date: the values of weights are shared anyway, buffers are copied, and if the user has
  exchanged modules, hooks or attributes (which `Watch` notices) a new view is made.

Switches of the whole process, which no view has, are in ``_switches.py``.
"""

import copy
import operator
import zlib

import torch
from torch import nn

from ._escapes import escapes
from ._twins import PLAIN, Maker, Watch, follow_generator, refill, vars_of

__all__ = ["Pool", "View", "escapes", "fingerprint", "view_of"]


class View:
    """Copies of some networks that share their weights; made by `view_of`.

    Attributes
    ----------
    modules : list of nn.Module
        The twins of the networks, in their order.
    problems : list of str
        Parts that could not be rebuilt.
    """

    def __init__(self, roots, maker):
        self.modules = [maker.memo[id(root)] for root in roots]
        self.problems = maker.problems
        self._roots = roots
        self._twins = maker.memo
        self._originals = maker.originals
        self._parameters = maker.parameters
        self._copies = maker.copies
        self._shared = maker.shared
        self._generators = maker.generators
        self._owned = bool(maker.custom)
        self._filled = maker.filled
        for i, name in enumerate(("_theirs", "_ours")):
            attributes = {id(vars_of(pair[i])) for pair in maker.modules}
            setattr(self, name, Watch([pair[i] for pair in maker.containers], attributes))
        self._parts = [twin for _, twin in maker.modules]
        dicts = (item for twin in self._parts for item in vars(twin).items())
        self._hooks = {id(value) for name, value in dicts if "_hooks" in name}

    def of(self, module):
        """Twin of one of the original modules.

        Parameters
        ----------
        module : nn.Module
            A network that the view was made of, or any module in it.

        Returns
        -------
        twin : nn.Module
            Of a compiled module, the twin of the module that was compiled.

        Raises
        ------
        KeyError
            If the view was not made of this module.
        """
        if not isinstance(module, nn.Module) or id(module) not in self._twins:
            raise KeyError(f"the view was not made of this {type(module).__name__}")
        return self._twins[id(module)]

    def parts(self):
        """All modules of the view, registered or not."""
        return list(self._parts)

    def tidy(self):
        """Remove what running has left on the view's own modules.

        Returns
        -------
        tidy : bool
            False if hooks were left behind or removed: then the view must not be used again.
        """
        for member, _, _, twin, ours in self._filled:
            member.__set__(twin, ours)
        if self._ours.same():
            return True
        changed = list(self._ours.changed())
        if any(id(container) in self._hooks for container, _ in changed):
            return False
        for container, saved in changed:
            refill(container, saved)
        return True

    def refresh(self):
        """Bring the view up to date with its original.

        Returns
        -------
        fits : bool
            False if a new view must be made, as modules, hooks or attributes were replaced or
            weights were moved. If True, buffers and plain tensors have the values of the original;
            weights always have.
        """
        return self.tidy() and self._update()

    def _update(self):
        # Modules with their own train() or eval() would have to be switched again.
        if self._owned:
            return False
        if not self._theirs.same() and not self._follow():
            return False
        for member, original, value, _, _ in self._filled:
            if member.__get__(original) is not value:
                return False
        try:
            for original, twin in self._parameters:
                if not twin.is_set_to(original) or twin.dtype is not original.dtype:
                    return False
                if twin.requires_grad:
                    twin.requires_grad_(False)
        except (RuntimeError, NotImplementedError):  # sparse and meta tensors have no storage
            return False
        return self._copy()

    def _follow(self):
        """Accept other modes, and tensors of the same form; return whether nothing else changed."""
        for container, saved in self._theirs.changed():
            if not isinstance(saved, dict) or container.keys() != saved.keys():
                return False
            for key, old in saved.items():
                new = container[key]
                if new is old or (key == "training" and isinstance(new, bool)):
                    continue
                if type(new) is type(old) and type(new) in PLAIN and new == old:
                    continue
                pair = self._copies.get(id(old))
                if pair is None or id(old) in self._shared or not _replaces(new, old):
                    return False
                del self._copies[id(old)]
                self._copies[id(new)] = [new, pair[1]]
        self._theirs = self._theirs.again()
        return True

    def _copy(self):
        for original, twin in self._generators:
            follow_generator(original, twin)
        if not self._copies:
            return True
        originals, twins = zip(*self._copies.values(), strict=True)
        if [*map(_FORM, originals)] != [*map(_FORM, twins)]:
            return False
        with torch.inference_mode(False), torch.no_grad():
            for twin in twins:
                if twin.requires_grad:  # something with a gradient was written into it
                    twin.detach_()
            _copy_all(twins, originals)
        return True

    def settle(self):
        """Take what the view's own modules are now for what they are to be; see `tidy`."""
        self._ours = self._ours.again()

    def __reduce__(self):
        raise TypeError("a view is not saved or copied; make one of the network loaded again.")


_FORM = operator.attrgetter("shape", "dtype", "device")


def _copy_all(targets, sources):
    copy_all = getattr(torch, "_foreach_copy_", None)
    if copy_all is not None:
        copy_all(targets, sources)  # half the time of one by one
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def _replaces(new, old):
    # Not a weight: that would be shared, not copied.
    is_tensor = isinstance(new, torch.Tensor) and not isinstance(new, nn.Parameter)
    return is_tensor and _FORM(new) == _FORM(old)


def view_of(modules):
    """Make a view of networks: twins that share their weights and nothing else.

    Parameters
    ----------
    modules : list of nn.Module
        The networks, never changed. Modules and weights that they share are shared in the view.

    Returns
    -------
    view : View
        In eval mode; its weights require no gradient.

    Raises
    ------
    ValueError
        If a lazy layer has no weights yet.
    """
    modules = list(modules)
    with torch.inference_mode(False), torch.no_grad():
        maker = Maker(modules)
        for module in modules:
            maker.rebuild(module)
        maker.finish()
    return View(modules, maker)


class Pool:
    """Views of some networks, one for each call that is running.

    Parameters
    ----------
    modules : list of nn.Module
        The networks.
    prepare : callable or None, default=None
        Called with every new view.
    """

    def __init__(self, modules, prepare=None):
        self.modules = list(modules)
        self.prepare = prepare
        self._free = []

    def take(self):
        """Lend a view that no other call has, brought up to date."""
        while True:
            try:
                view = self._free.pop()  # threads need no lock for it
            except IndexError:
                view = view_of(self.modules)
                if self.prepare is not None:
                    self.prepare(view)
                return view
            if view._update():  # tidy since it was given back
                return view

    def give(self, view):
        """Take a view back. A call that fails does not return its view, which is then dropped."""
        if view.tidy() and not view._owned:  # an owned view cannot be brought up to date
            self._free.append(view)

    def __getstate__(self):
        return {"modules": self.modules, "prepare": self.prepare}

    def __setstate__(self, state):
        self.__init__(state["modules"], state.get("prepare"))

    def __deepcopy__(self, memo):
        return type(self)(copy.deepcopy(self.modules, memo), self.prepare)


# -- weights as a number -----------------------------------------------------------------------


def fingerprint(modules):
    """Checksum of all parameters and buffers of networks, equal where all values are equal.

    Parameters
    ----------
    modules : list of nn.Module
        The networks.

    Returns
    -------
    checksum : int
        Of names, shapes, dtypes and values, whatever the device; 10 M numbers take about 15 ms.
    """
    checksum, seen = 0, set()
    for i, root in enumerate(modules):
        for prefix, module in root.named_modules(memo=seen):
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        checksum = _checksum(f"{i}.{prefix}.{name}", tensor, checksum)
    return checksum


def _checksum(name, tensor, checksum):
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return zlib.crc32(f"{name} uninitialised".encode(), checksum)
    tensor = tensor.detach()
    header = f"{name} {tuple(tensor.shape)} {tensor.dtype}"
    checksum = zlib.crc32(header.encode(), checksum)
    try:
        return zlib.crc32(tensor.numpy(), checksum)
    except (TypeError, ValueError, RuntimeError):  # elsewhere, not contiguous, not a dtype of numpy
        pass
    for part in () if tensor.is_meta else _dense_parts(tensor):
        checksum = zlib.crc32(_bytes(part), checksum)
    return checksum


def _dense_parts(tensor):
    """Tensors with ordinary storage that hold a tensor's values."""
    if tensor.is_quantized:
        if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            scale = torch.tensor([tensor.q_scale(), tensor.q_zero_point()], dtype=torch.float64)
            return tensor.int_repr(), scale
        scales = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        return tensor.int_repr(), *scales
    if tensor.layout is torch.strided:
        return (tensor,)
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return tensor.indices(), tensor.values()
    return (tensor.to_dense(),)


def _bytes(tensor):
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    # Neither copies where it need not; numpy has not all of torch's dtypes.
    tensor = tensor.cpu().contiguous()
    try:
        return tensor.numpy()
    except TypeError:
        return tensor.reshape(-1).view(torch.uint8).numpy()
