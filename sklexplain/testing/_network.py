"""Checks of what is explained: it is never touched, and it must be a function of one sample."""

import contextvars
import copy
import gc
import signal
import threading
import timeit
import warnings
import weakref
from contextlib import contextmanager
from unittest import SkipTest
from unittest.mock import patch

import numpy as np
import torch
from sklearn.base import clone
from torch.nn import functional as F

from ..exceptions import ChangedModelWarning, ConvergenceWarning, SklexplainWarning
from ..representation import torch_modules
from ..utils import ThreadModes
from ._common import (
    assert_close,
    assert_unchanged,
    dense,
    first_leaf,
    fit,
    flags,
    hooked,
    networks_of,
    of_tensor,
    refit,
    snapshot,
    with_own_network,
)


def check_generators_untouched(estimator, X, y):
    """Check that no global random generator moves."""
    fresh = clone(estimator)
    if "random_state" in fresh.get_params():
        fresh.set_params(random_state=None)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()
    refit(fresh, X, y).transform(X)
    numpy_after = np.random.get_state()
    same = all(np.array_equal(a, b) for a, b in zip(numpy_before, numpy_after, strict=True))
    if not same or not torch.equal(torch_before, torch.get_rng_state()):
        raise AssertionError("a global random generator was used")


def check_model_unchanged(estimator, X, y):
    """Check that a model handed in comes back bit-identical: state, modes, gradients, hooks."""
    modules = networks_of(estimator)
    before = snapshot(modules)
    fit(estimator, X, y).transform(X)
    assert_unchanged(modules, before, "after transform")


# A network's hook that could reach the network by itself would make it one that cannot be viewed.
_LOOK = contextvars.ContextVar("look", default=None)


def _looking_hook(module, args, output):
    look = _LOOK.get()
    if look is not None:
        look(module, output)


@contextmanager
def _looking(modules, look):
    """Call ``look`` with the module and its output in every forward pass of the modules."""
    handles = [m.register_forward_hook(_looking_hook) for m in modules]
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)
        for handle in handles:
            handle.remove()


def _is_viewed(fitted):
    """Whether copies of the network are run; the few that cannot be copied are documented."""
    return getattr(getattr(fitted, "_representation", None), "viewed", True)


def check_model_unchanged_during_call(estimator, X, y):
    """Check that modes, gradient flags and hooks of the network stay while it is explained."""
    own, network = with_own_network(estimator)
    if own is None:
        return
    network.train()
    seen = []
    with _looking([first_leaf(network)], lambda *_: seen.append(flags(network))):
        before = flags(network)
        fitted = refit(own, X, y)
        fitted.transform(X)
    if not seen:
        raise AssertionError("hooks of the network are not run")
    if _is_viewed(fitted) and any(found != before for found in seen):
        changed = {k for found in seen for k in found if found[k] != before[k]}
        raise AssertionError(f"while it was being explained, the network had other {changed}")


def check_training_in_a_thread(estimator, X, y):
    """Check that another thread can train the network meanwhile, as if it were alone.

    The explanation may fail, as weights change under it; training may not.

    Raises
    ------
    AssertionError
        If one of its 200 steps gives a different result.
    """
    own, network = with_own_network(estimator)
    if own is None:
        return
    fitted = refit(own, X, y)
    if not _is_viewed(fitted):
        return
    fitted.transform(X)
    trainer = _Trainer(network.train(), X)
    trainer.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while trainer.is_alive():
                try:
                    fitted.transform(X)
                except RuntimeError:
                    pass
    finally:
        trainer.join()
    if trainer.problems:
        raise AssertionError(f"training in another thread: {trainer.problems[0]}")


class _Trainer(threading.Thread):
    """Trains a network for 200 steps and notes any deviation."""

    def __init__(self, network, X):
        super().__init__(daemon=True)
        self.network, self.x, self.problems = network, torch.as_tensor(X), []

    def run(self):
        try:
            self._train()
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    def _train(self):
        before, draws = flags(self.network), set()
        wanted = [p for p in self.network.parameters() if p.requires_grad]
        # Without a learning rate, so that the weights stay what they were fitted with.
        optimizer = torch.optim.SGD(wanted, lr=0.0)
        reached = None
        for step in range(200):
            optimizer.zero_grad()
            output = self.network(self.x)
            output.square().sum().backward()
            optimizer.step()
            got = [p.grad is not None for p in wanted]
            reached = got if reached is None else reached
            draws.add(torch.randn(2).tolist()[0])
            if flags(self.network) != before:
                self.problems.append(f"step {step}: modes, gradient flags or hooks changed")
            if got != reached:
                self.problems.append(f"step {step}: some weights got no gradient")
            if self.problems:
                return
        if len(draws) < 200:
            self.problems.append(f"{200 - len(draws)} of 200 random numbers were drawn again")


def check_changed_weights(estimator, X, y):
    """Check that weights changed after fit are noticed, or followed.

    An explainer that keeps results of the network warns (``_keeps_results``); the others explain
    the network as it is now. Loading equal values is no change.

    Raises
    ------
    AssertionError
        If a change goes unnoticed, or a warning comes without a change.
    """
    own, network = with_own_network(estimator)
    if own is None:
        return
    fitted = refit(own, X, y)
    keeps = getattr(fitted, "_keeps_results", False)
    state = copy.deepcopy(network.state_dict())
    for what, change in _CHANGES.items():
        if change(network) is False:
            continue
        found, caught = _transform(fitted, X)
        warned = [w for w in caught if issubclass(w.category, ChangedModelWarning)]
        if keeps and not any("again" in str(w.message) for w in warned):
            raise AssertionError(
                f"weights changed by {what}: no ChangedModelWarning that says to fit again"
            )
        if not keeps:
            if warned:
                raise AssertionError(f"weights changed by {what}: a warning, and nothing is kept")
            assert_close(found, fit(own, X, y).transform(X), f"weights changed by {what}")
        network.load_state_dict(state)
        _, caught = _transform(fitted, X)
        if any(issubclass(w.category, ChangedModelWarning) for w in caught):
            raise AssertionError("equal values loaded again are taken for other weights")


def _transform(fitted, X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return dense(fitted.transform(X)), caught


def _take_a_step(network):
    parameters = list(network.parameters())
    flagged = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(parameters, lr=0.1).step()
    for parameter, flag in zip(parameters, flagged, strict=True):
        parameter.grad = None
        parameter.requires_grad_(flag)


def _write_data(network):
    for parameter in network.parameters():
        parameter.data.mul_(1.25)


def _move_statistics(network):
    buffers = [b for b in network.buffers() if b.is_floating_point()]
    for buffer in buffers:
        buffer.add_(0.25)
    return bool(buffers)


def _load_others(network):
    state = network.state_dict()
    changed = {k: 0.5 * v if v.is_floating_point() else v for k, v in state.items()}
    network.load_state_dict(changed)


_CHANGES = {
    "an optimizer": _take_a_step,
    "writing .data": _write_data,
    "BatchNorm's statistics": _move_statistics,
    "load_state_dict": _load_others,
}


def check_interrupts(estimator, X, y):
    """Check that Ctrl-C at 40 random moments of transform leaves no trace on the model.

    Modes of the calling thread (gradients, inference) cannot be put back at every moment: one in
    40 may be lost.

    Raises
    ------
    SkipTest
        Where there are no timed signals.
    AssertionError
        If an interrupt leaves a trace.
    """
    if threading.current_thread() is not threading.main_thread():
        raise SkipTest("signals are for the main thread only")
    if not hasattr(signal, "setitimer"):
        raise SkipTest("this system has no setitimer")
    fitted = fit(estimator, X, y)
    modules = list(torch_modules(fitted.estimator_)) if hasattr(fitted, "estimator_") else []
    expected = fitted.transform(X)
    # The shortest of a few: interrupts drawn over one slow call would come after most others.
    seconds = min(timeit.repeat(lambda: fitted.transform(X), number=1, repeat=5))
    before, switches, lost = snapshot(modules), _switches(), 0
    modes = ThreadModes.now()
    random_state = np.random.RandomState(0)
    with _alarm_interrupts():
        for _ in range(40):
            _interrupted(lambda: fitted.transform(X), 1e-5 + seconds * random_state.uniform())
            if modes.put_back() or not torch.is_grad_enabled():
                lost += 1
                torch.set_grad_enabled(True)
            if torch.is_inference_mode_enabled():
                raise AssertionError("Ctrl-C leaves inference mode on")
            if _switches() != switches:
                raise AssertionError("Ctrl-C leaves switches of the process changed")
            assert_unchanged(modules, before, "after Ctrl-C")
    gc.collect()  # what torch puts back then
    lost += bool(modes.put_back())
    if lost > 1:
        raise AssertionError(f"{lost} of 40 times Ctrl-C left gradients off or a mode on")
    assert_close(fitted.transform(X), expected, "after Ctrl-C")


def _switches():
    return (torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.enabled)


@contextmanager
def _alarm_interrupts():
    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def _interrupted(call, seconds):
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        # Torch, when the interrupt comes just before a mode is entered.
        if "mode stack" not in str(error):
            raise


# Larger than any value of X that a check uses elsewhere, small enough for single precision.
_MARK = 64.0


class _NotFinite:
    """Hook of a network's first layer: NaN or infinity, for all samples or for marked ones."""

    def __init__(self, value, marked_only):
        self.value, self.marked_only = value, marked_only

    def __call__(self, module, args, output):
        return of_tensor(lambda out: self._change(args[0], out), output)

    def _change(self, x, output):
        chosen = torch.ones(len(output), dtype=torch.bool, device=output.device)
        if self.marked_only:
            chosen = x.flatten(1)[:, 0] >= _MARK
        chosen = chosen.view(-1, *[1] * (output.ndim - 1))
        return torch.where(chosen, torch.full_like(output, self.value), output)


def check_network_not_finite(estimator, X, y):
    """Check that a network which returns NaN or infinity is an error that names the sample."""
    if with_own_network(estimator)[0] is None:
        return
    marked = X.copy()
    marked[(2, *(0,) * (X.ndim - 1))] = _MARK
    for value in (np.nan, np.inf):
        for marked_only in (False, True):
            own, network = with_own_network(estimator)
            what = f"a network that returns {value} {'once' if marked_only else 'always'}"
            with hooked(first_leaf(network), _NotFinite(value, marked_only)):
                try:
                    refit(own, marked, y).transform(marked)
                except ValueError as error:
                    message = str(error)
                else:
                    raise AssertionError(f"{what}: no error")
            missing = [w for w in ("not finite", "sample") if w not in message]
            if marked_only and "sample 2" not in message:
                missing.append("sample 2")
            if missing:
                raise AssertionError(f"{what}: the message lacks {missing}: {message}")


def _drop_out(module, args, output):
    return of_tensor(lambda out: F.dropout(out, 0.5, training=True), output)


def _subtract_mean(module, args, output):
    return of_tensor(lambda out: out - out.mean(dim=0, keepdim=True), output)


def _normalize(module, args, output):
    # One value a channel would have no variance, an error of torch's own.
    return of_tensor(lambda out: F.batch_norm(out, None, None, training=True), output)


_NO_FUNCTIONS = {
    "draws random numbers": _drop_out,
    "subtracts the mean of the batch": _subtract_mean,
    "normalizes by the batch": _normalize,
}


def check_function_of_one_sample(estimator, X, y):
    """Check that fit warns, or fails, if the network's output is no function of one sample."""
    for what, hook in _NO_FUNCTIONS.items():
        own, network = with_own_network(estimator)
        if own is None:
            return
        with hooked(first_leaf(network), hook), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                refit(own, X, y)
            except (TypeError, ValueError, RuntimeError):
                continue
        if not any(
            issubclass(w.category, SklexplainWarning)
            and not issubclass(w.category, ConvergenceWarning)
            and "sample" in str(w.message)
            for w in caught
        ):
            raise AssertionError(f"a network that {what}: neither a warning nor an error in fit")


def check_memory(estimator, X, y):
    """Check that ten fits hold no more memory than two, and what fit made dies with it."""
    own, network = with_own_network(estimator)
    if own is None:
        return
    with _old_objects_set_aside():
        for number in range(10):
            fit(own, X, y).transform(X)
            if number == 1:
                gc.collect()
                before = _live_bytes()
        gc.collect()
        grown = _live_bytes() - before
    if grown > 0:
        raise AssertionError(f"eight more fits hold {grown} more bytes of tensors")
    made = []

    def look(module, output):
        made.append(weakref.ref(module))
        made.append(weakref.ref(output[0] if isinstance(output, tuple) else output))

    gc.disable()
    try:
        with _looking([first_leaf(network)], look):
            fit(own, X, y).transform(X)
        originals = set(map(id, network.modules()))
        left = [r() for r in made if r() is not None and id(r()) not in originals]
    finally:
        gc.enable()
    if left:
        kinds = sorted({type(value).__name__ for value in left})
        raise AssertionError(f"{len(left)} objects made by fit wait for the collector: {kinds}")


@contextmanager
def _old_objects_set_aside():
    """Let the collector look at new objects only: modules and the like are most of a process."""
    frozen = gc.get_freeze_count() > 0
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def _live_bytes():
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    return sum(map(_storage_bytes, tensors))


def _storage_bytes(tensor):
    if tensor.layout != torch.strided:
        return 0
    try:
        return tensor.untyped_storage().nbytes()
    except NotImplementedError:  # wrappers of torch.func, left by whoever ran before
        return 0


def check_tags_not_asked(estimator, X, y):
    """Check that transform does not walk the explained estimator for its tags."""
    fitted = fit(estimator, X, y)
    explained = getattr(fitted, "estimator_", None)
    if not hasattr(explained, "get_params"):
        return
    fitted.transform(X)
    kinds, asked = {type(explained)}, []
    kinds |= {type(v) for v in explained.get_params().values() if hasattr(v, "__sklearn_tags__")}
    kinds -= {type(fitted)}

    def asking(original, name):
        def __sklearn_tags__(self):
            asked.append(name)
            return original(self)

        return __sklearn_tags__

    patches = [
        patch.object(kind, "__sklearn_tags__", asking(kind.__sklearn_tags__, kind.__name__))
        for kind in kinds
        if hasattr(kind, "__sklearn_tags__")
    ]
    for each in patches:
        each.start()
    try:
        fitted.transform(X)
    finally:
        for each in patches:
            each.stop()
    if asked:
        raise AssertionError(f"transform asks the estimator for tags: {asked}")
