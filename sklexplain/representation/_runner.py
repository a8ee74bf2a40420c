"""Running networks: a view for every call, or the networks themselves under a lock."""

import threading
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn

from ..utils import ThreadModes, seeded
from ._modules import BlackBox, layer_table, stages
from ._session import frozen, own_weights
from ._switches import exact_attention, keep_cudnn, may_keep_cudnn
from ._views import Pool, escapes


@dataclass
class Running:
    """What one call runs: the modules of a view, or the networks themselves.

    Attributes
    ----------
    chain : nn.Module
        The torch path.
    table : dict of str to (nn.Module, Stage or None)
        Its modules, as in `layer_table`.
    bound : dict
        Points that have been given these modules.
    """

    chain: nn.Module
    table: dict
    bound: dict = field(default_factory=dict)


class Runner:
    """Runs the networks of one torch path, never touching them where that can be avoided.

    Parameters
    ----------
    chain : nn.Module
        The torch path.
    networks : list of nn.Module
        All networks of the estimator, those inside of black boxes too.
    device : torch.device
        Where they run.
    second : bool, default=False
        Whether gradients are differentiated, or vectorised, which cuDNN's recurrent layers cannot.

    Attributes
    ----------
    obstacles : list of str
        Why views cannot stand for the networks; empty where they can.
    """

    def __init__(self, chain, networks, device, second=False):
        self._chain, self._networks, self._device = chain, networks, device
        inside = [module for network in networks for module in network.modules()]
        self._cudnn = device.type == "cuda" and not second and may_keep_cudnn([chain, *networks])
        self._pool = Pool([chain], keep_cudnn if self._cudnn else None)
        self.obstacles = self._find_obstacles(inside)
        self._cudnn = self._cudnn and not self.obstacles
        parts = [*chain.modules(), *inside]
        self._needs_switch = any(isinstance(m, (nn.MultiheadAttention, nn.RNNBase)) for m in parts)
        # Loaders of skorch nets draw a seed of torch's generator for every pass.
        boxes = any(isinstance(m, BlackBox) for m in chain.modules())
        self._boxes_draw = boxes and bool(inside)
        self._local = threading.local()

    def _find_obstacles(self, inside):
        """Say why a view cannot stand for the networks."""
        ours = set(self._chain.modules())
        boxes = [module for module in ours if isinstance(module, BlackBox)]
        if boxes and any(module not in ours for module in inside):
            return [f"{boxes[0].reason} runs a network of its own"]
        view = self._pool.take()
        obstacles = escapes(view) if stages(self._chain) else []
        if not obstacles:
            self._pool.give(view)
        return obstacles

    @property
    def running(self):
        """What this thread's session runs; None outside of one."""
        reference = getattr(self._local, "running", None)
        return None if reference is None else reference()

    def in_session(self):
        """Return what this thread's session runs.

        Returns
        -------
        running : Running

        Raises
        ------
        RuntimeError
            If there is no session.
        """
        running = self.running
        if running is None:
            raise RuntimeError("a network is run inside of representation.session() only.")
        return running

    @contextmanager
    def session(self, probe, seed):
        """Take a view out of the pool, or the networks themselves, for one call.

        Parameters
        ----------
        probe : Probe or None
            What is known of the networks.
        seed : int
            Of those that draw from torch's global generator.

        Yields
        ------
        begun : bool
            False in a session within another, which is the same one.
        """
        if self.running is not None:
            yield False
            return
        with self._modes(probe is not None and probe.draws, seed):
            view = None if self.obstacles else self._pool.take()
            if view is None:
                running = Running(self._chain, layer_table(self._chain))
            else:
                running = self._running_view(view)
            modes = ThreadModes.now()
            writes = view is not None and probe is not None and probe.writes_weights
            # Weakly: an interrupt while this ends must not leave a session open.
            self._local.running = weakref.ref(running)
            try:
                with own_weights(running.chain) if writes else nullcontext():
                    yield True
            finally:
                self._local.running = None
                # An interrupt may leave DeepLIFT's rules or torch.vmap's axes in place.
                modes.put_back()
            if view is not None:
                self._pool.give(view)

    @contextmanager
    def _modes(self, draws, seed):
        networks = [self._chain, *self._networks]
        with (
            frozen(networks) if self.obstacles else nullcontext(),
            exact_attention(networks, self._device, self._cudnn)
            if self._needs_switch
            else nullcontext(),
            torch.inference_mode(False),
            torch.autocast(self._device.type, enabled=False),
            seeded(seed, self._device) if draws or self._boxes_draw else nullcontext(),
        ):
            yield

    def _running_view(self, view):
        """Return the modules of a view by their names in the original, made once a view."""
        running = vars(view).get("running")
        if running is None:
            table = {
                name: (view.of(module), None if stage is None else view.of(stage))
                for name, (module, stage) in layer_table(self._chain).items()
            }
            running = vars(view)["running"] = Running(view.modules[0], table)
        return running
