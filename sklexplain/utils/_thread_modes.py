"""What torch keeps for each thread: modes that an interrupt may leave in place."""

from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode

_functorch = torch._C._functorch


class ScopedMode(TorchFunctionMode):
    """A mode that changes nothing once its ``with`` statement is over.

    Torch takes a mode off its stack for a moment while it handles an operation. Interrupted there,
    it may put it back whenever garbage is collected, in the midst of its user's own work.

    Subclasses say in ``_instead(func, args, kwargs)`` what is done in place of an operation.
    """

    is_open = False

    def __enter__(self):
        """Begin."""
        self.is_open = True
        return super().__enter__()

    def __exit__(self, *exc_info):
        """End."""
        self.is_open = False
        super().__exit__(*exc_info)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run an operation, or what stands for it."""
        kwargs = kwargs or {}
        return self._instead(func, args, kwargs) if self.is_open else func(*args, **kwargs)


class ThreadModes(NamedTuple):
    """Depths of the calling thread's stacks of modes in torch.

    Torch's own context managers leave a mode in place when Ctrl-C comes between entering it and
    the ``try`` that takes it away; every later backward of the thread would then fail.

    Attributes
    ----------
    n_functions : int
        Modes of ``__torch_function__``, such as the rules of DeepLIFT.
    n_transforms : int
        Transforms of ``torch.func``, such as ``torch.vmap``.
    n_batched : int
        Calls of ``torch.autograd.grad(..., is_grads_batched=True)``, which have a count of
        their own.
    """

    n_functions: int
    n_transforms: int
    n_batched: int

    @classmethod
    def now(cls):
        """Return the depths at this moment."""
        n_batched = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        return cls(
            torch._C._len_torch_function_stack(),
            _functorch.get_dynamic_layer_stack_depth(),
            n_batched,
        )

    def put_back(self):
        """Take away the modes that have been entered since.

        Returns
        -------
        n_left : int
            How many there were.
        """
        now = ThreadModes.now()
        for _ in range(self.n_functions, now.n_functions):
            mode = torch.overrides._pop_mode()
            if isinstance(mode, ScopedMode):
                mode.is_open = False
        if now.n_transforms > self.n_transforms:
            _functorch.pop_dynamic_layer_stack_and_undo_to_depth(self.n_transforms)
        for _ in range(self.n_batched, now.n_batched):
            torch._C._vmapmode_decrement_nesting()
        return sum(max(after - before, 0) for before, after in zip(self, now, strict=True))
