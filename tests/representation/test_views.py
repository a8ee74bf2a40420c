"""Views of networks compute what the networks do, follow them, and never touch them."""

import collections
import copy
import functools
import pickle
import sys
import threading
import types
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from sklexplain.representation import _switches
from sklexplain.representation._switches import exact_attention, keep_cudnn, may_keep_cudnn
from sklexplain.representation._views import Pool, escapes, fingerprint, view_of

# -- networks: each takes (n, 4) and has something random in train mode ------------------------


class Drops(nn.Module):
    """A layer and dropout, reached in the way of a subclass."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.d = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)
        self.log = []
        self.set_up()

    def set_up(self):
        pass

    def act(self, x):
        return self.norm(self.d(torch.tanh(self.a(x))))

    def forward(self, x):
        return self.act(x)


def drops(set_up, forward):
    return type("Net", (Drops,), {"set_up": set_up, "forward": forward})


def attribute(name, make, forward):
    return drops(lambda self: setattr(self, name, make(self)), forward)


class Pair(collections.namedtuple("Pair", "first, second")):
    pass


class Slots(Drops):
    __slots__ = ("inner", "empty")

    def set_up(self):
        object.__setattr__(self, "inner", [self.a])

    def forward(self, x):
        return self.d(self.inner[0](x))


class Scaled(nn.Parameter):
    pass


class SubclassedWeight(Drops):
    def set_up(self):
        self.w = Scaled(torch.randn(4, 4))
        self.w.scale = torch.full((), 2.0)
        self.ws = [self.w]

    def forward(self, x):
        assert type(self.w) is Scaled and self.ws[0] is self.w
        return self.act(x @ self.w * self.w.scale)


class Adapter(nn.Linear):
    """Merged into the weight in eval mode."""

    def __init__(self):
        super().__init__(4, 4)
        self.delta = nn.Parameter(torch.randn(4, 4))
        self.merged = False

    def train(self, mode=True):
        if mode == self.merged:
            self.weight.data += self.delta.data if not mode else -self.delta.data
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return super().forward(x)


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.rnn = kind(2, 4, batch_first=True, num_layers=2, dropout=0.5, **options)

    def forward(self, x):
        return self.rnn(x.reshape(len(x), 2, 2))[0][:, -1]


class Tokens(nn.Module):
    """Runs layers of attention on (n, 2, 4)."""

    def __init__(self, layer, padded=False):
        super().__init__()
        self.embed = nn.Linear(2, 4)
        self.layer = layer
        self.padded = padded

    def forward(self, x):
        z = self.embed(x.reshape(len(x), 2, 2))
        if isinstance(self.layer, nn.Transformer):
            return self.layer(z, z)
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(z, z, z)[0]
        mask = torch.tensor([[False, True]]).expand(len(x), 2) if self.padded else None
        out = self.layer(z, src_key_padding_mask=mask)
        return out[:, :1] if self.padded else out


class Lists(Drops):
    def set_up(self):
        self.ws = nn.ParameterList([torch.randn(4, 4), torch.randn(4, 4)])
        self.by_name = nn.ParameterDict({"b": torch.randn(4)})

    def forward(self, x):
        return self.act(x @ self.ws[0] @ self.ws[1] + self.by_name["b"])


def stateful(self, x):
    self.log.append(len(x))
    self.t += 1
    self.cache["x"] = x
    self.calls = self.calls + 1
    return self.act(x) + self.calls + self.t + torch.rand(4, generator=self.generator)


def stateful_set_up(self):
    self.t, self.cache, self.calls = torch.zeros(()), {}, 0
    self.generator = torch.Generator().manual_seed(0)


def weight_norm_old():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        net = Recurrent()
        nn.utils.weight_norm(net.rnn, "weight_hh_l0")
        return nn.Sequential(net, nn.utils.weight_norm(nn.Linear(4, 4)), nn.Dropout())


def patched():
    net = Drops()
    net.forward = types.MethodType(lambda self, x: 2 * self.act(x), net)
    return net


def accelerated():
    net = Drops()
    net.a.old = net.a.forward
    net.a.forward = functools.update_wrapper(functools.partial(net.a.forward), net.a.old)
    return net


def hooked():
    net = Drops()
    net.keep = lambda out: out
    net.a.register_forward_hook(functools.partial(add_of, net.norm))
    net.register_forward_pre_hook(lambda m, args: (m.a(args[0]),))
    return net


def add_of(norm, module, args, out):
    return out + norm(args[0])


def lazy():
    net = nn.Sequential(nn.LazyLinear(4), nn.Dropout(), nn.LazyBatchNorm1d())
    net(torch.randn(3, 4))
    return net


def traced():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    return torch.fx.symbolic_trace(net)


def shared():
    a, d = nn.Linear(4, 4), nn.Dropout()
    other = nn.Linear(4, 4)
    other.weight = a.weight
    return nn.Sequential(a, d, a, other)


def compiled():
    net = nn.Sequential(Drops(), torch.compile(nn.Linear(4, 4), backend="eager"))
    net[0].a.compile(backend="eager")
    return net


def with_parent():
    net = Drops()
    net.a.parents = [net]
    object.__setattr__(net.a, "parent", net)
    net.a.weak = weakref.ref(net)
    object.__setattr__(net.a, "proxy", weakref.proxy(net))  # else registered as a child
    net.forward = types.MethodType(lambda self, x: self.a.weak().act(self.a.proxy.a(x)), net)
    return net


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, **options)


def parametrised():
    makers = (
        parametrizations.orthogonal,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    )
    return nn.Sequential(*(make(nn.Linear(4, 4)) for make in makers), nn.Dropout())


def pruned():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4))
    prune.l1_unstructured(net[0], "weight", 0.5)
    net(torch.randn(2, 4))
    return net


NETS = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout()),
    "plain": Drops,
    "bound method": attribute("f", lambda self: self.act, lambda self, x: self.f(x)),
    "dict": attribute("table", lambda self: {"d": self.d}, lambda self, x: self.table["d"](x)),
    "module key": attribute("s", lambda self: {self.d: 1}, lambda self, x: [*self.s][0](x)),
    "nested": attribute(
        "ls", lambda s: [[s.a, s.d], (s.norm,)], lambda s, x: s.ls[1][0](s.ls[0][1](x))
    ),
    "namedtuple": attribute(
        "pair", lambda s: Pair(s.a, {s.d}), lambda s, x: [*s.pair.second][0](s.pair.first(x))
    ),
    "deque": attribute(
        "q", lambda s: collections.deque([s.d], maxlen=3), lambda s, x: s.act(s.q[0](x))
    ),
    "partial": attribute("p", lambda s: functools.partial(s.d.forward), lambda s, x: s.p(x)),
    "unregistered": attribute(
        "extra", lambda s: {"m": nn.Linear(4, 4)}, lambda s, x: s.act(s.extra["m"](x))
    ),
    "compiled method": attribute(
        "c", lambda s: torch.compile(s.act, backend="eager"), lambda s, x: s.c(x)
    ),
    "state in forward": drops(stateful_set_up, stateful),
    "numbers in lists": attribute("k", lambda s: [1.0, 2.0], lambda s, x: s.act(x) * s.k[1]),
    "tensors in lists": attribute(
        "k", lambda s: [torch.ones(4), (torch.ones(4),)], lambda s, x: s.act(x) * s.k[1][0]
    ),
    "slots": Slots,
    "weight of a subclass": SubclassedWeight,
    "own train()": lambda: nn.Sequential(Adapter(), nn.Dropout()),
    "patched": patched,
    "accelerated": accelerated,
    "hooked": hooked,
    "parent": with_parent,
    "lazy": lazy,
    "traced": traced,
    "shared": shared,
    "compiled": compiled,
    "LSTM": Recurrent,
    "GRU": lambda: Recurrent(nn.GRU, bidirectional=True),
    "weight norm": weight_norm_old,
    "parametrised": parametrised,
    "pruned": pruned,
    "lists of weights": Lists,
    "DataParallel": lambda: nn.DataParallel(Drops()),
    "encoder layer": lambda: Tokens(encoder_layer()),
    "encoder": lambda: Tokens(nn.TransformerEncoder(encoder_layer(), 2), padded=True),
    "attention": lambda: Tokens(nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)),
    "transformer": lambda: Tokens(nn.Transformer(4, 2, 1, 1, 8, batch_first=True)),
    "checkpoint": drops(
        lambda self: None,
        lambda self, x: torch.utils.checkpoint.checkpoint(self.act, x, use_reentrant=False),
    ),
}
every_net = pytest.mark.parametrize("name", NETS)
X = torch.linspace(-1, 1, 12).reshape(3, 4)


def make(name):
    torch.manual_seed(0)
    net = NETS[name]()
    for buffer_name, buffer in net.named_buffers():
        if "running_var" in buffer_name:
            buffer.fill_(2.0)
    return net


def outputs(net):
    """Output and gradient at X, with random numbers as they come."""
    x = X.clone().requires_grad_()
    with exact_attention([net], "cpu"):
        out = net(x)
        with torch.no_grad():
            plain = net(X)
    weights = torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    return plain.detach(), out.detach(), gradient


def reference(name, change=None):
    """What another network, made and changed alike, does in eval mode."""
    net = make(name)
    if change is not None:
        change(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # dynamo's, about its own work
        return outputs(net.eval())


def assert_close(a, b):
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right)


def as_found(value, seen):
    """Everything a module holds, by identity, and values of what can be written in place."""
    if id(value) in seen:
        return id(value)
    seen[id(value)] = value
    if isinstance(value, nn.Module):
        return id(value), [(k, as_found(v, seen)) for k, v in vars(value).items()]
    if isinstance(value, torch.Tensor):
        return (
            id(value),
            value.detach().numpy().tobytes(),
            value.requires_grad,
            value.is_leaf and id(value.grad),
        )
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, dict):
        return [(as_found(k, seen), as_found(v, seen)) for k, v in value.items()]
    if isinstance(value, (list, tuple, set, collections.deque)):
        return [as_found(item, seen) for item in value]
    return value if isinstance(value, (str, int, float)) else id(value)


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
@every_net
def test_view_is_the_network_in_eval_mode_and_leaves_it_alone(name, mode):
    expected = reference(name)
    net = make(name)
    net.train(mode != "eval")
    if mode == "mixed":
        for module in [*net.modules()][::2]:
            module.training = False
    seen = {}
    before = as_found(net, seen)
    view = view_of([net])
    assert escapes(view) == []
    got = outputs(view.modules[0])
    assert as_found(net, {}) == before
    assert_close(got, expected)
    assert not any(module.training for module in view.parts())


@every_net
def test_view_shares_weights_only(name):
    net = make(name).train()
    view = view_of([net])
    twin = view.modules[0]
    originals = set(net.modules())
    assert originals.isdisjoint(view.parts())
    own = name == "own train()"
    pointers = {p.data_ptr() for p in net.parameters()}
    assert not any(p.requires_grad for p in twin.parameters())
    assert all((p.data_ptr() in pointers) != own for p in twin.parameters())
    assert not pointers.intersection(b.data_ptr() for b in twin.buffers())
    assert view.of(net) is twin
    assert all(view.of(m) in view.parts() for m in originals)
    with pytest.raises(KeyError, match="Linear"):
        view.of(nn.Linear(1, 1))


@every_net
def test_a_call_leaves_nothing_for_the_next(name):
    pool = Pool([make(name)])
    results = []
    for _ in range(2):
        view = pool.take()
        results.append(outputs(view.modules[0]))
        pool.give(view)
    assert_close(*results)


def test_networks_share_what_they_share():
    layer = nn.Linear(4, 4)
    view = view_of([nn.Sequential(layer), nn.Sequential(nn.ReLU(), layer)])
    assert view.modules[0][0] is view.modules[1][1] is view.of(layer)


# -- following the original --------------------------------------------------------------------


def steps(optimizer, **options):
    def train(net):
        made = optimizer(net.parameters(), lr=0.1, **options)
        net.train()
        for _ in range(3):
            made.zero_grad()
            net(X).square().sum().backward()
            made.step()

    return train


def in_place(net):
    net[0].weight.data.normal_()


def put_data(net):
    net[0].weight.data = torch.randn(4, 4)


def from_numpy(net):
    net[0].weight.detach().numpy()[:] += 1


def ema(net):
    net[0].weight.data.copy_(net[0].weight.data * 0.5)


def from_vector(net):
    vector = nn.utils.parameters_to_vector(net.parameters())
    nn.utils.vector_to_parameters(vector.detach() * 1.5, net.parameters())


def statistics(net):
    net.train()
    net(X)


def state(assign):
    def load(net):
        other = make("mlp")
        nn.init.normal_(other[0].weight)
        net.load_state_dict(other.state_dict(), assign=assign)

    return load


def new_parameter(net):
    net[0].weight = nn.Parameter(torch.randn(4, 4))


def new_module(net):
    net[0] = nn.Linear(4, 4)


def new_buffer(net):
    net[1].running_mean = net[1].running_mean + 1


def reset(net):
    net[0].reset_parameters()


def pruning(net):
    prune.l1_unstructured(net[0], "weight", 0.5)


CHANGES = {
    "SGD": (steps(torch.optim.SGD), True),
    "Adam": (steps(torch.optim.Adam), True),
    "fused Adam": (steps(torch.optim.Adam, fused=True), True),
    "in place": (in_place, True),
    "numpy": (from_numpy, True),
    "ema": (ema, True),
    "reset": (reset, True),
    "statistics": (statistics, True),
    "load": (state(assign=False), True),
    "new buffer": (new_buffer, True),
    "data": (put_data, False),
    "vector": (from_vector, False),
    "assign": (state(assign=True), False),
    "parameter": (new_parameter, False),
    "module": (new_module, False),
    "prune": (pruning, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_views_follow_the_network_and_the_fingerprint_tells(change):
    net = make("mlp")
    pool = Pool([net])
    view = pool.take()
    pool.give(view)
    found = fingerprint([net])
    apply, fits = CHANGES[change]
    torch.manual_seed(1)
    apply(net)
    assert fingerprint([net]) != found
    taken = pool.take()
    assert (taken is view) is fits
    got = outputs(taken.modules[0])
    assert not torch.equal(got[0], reference("mlp")[0])
    assert_close(got, outputs(net.eval()))
    assert taken.refresh() and (view.refresh() is fits)


@pytest.mark.parametrize("name", ["LSTM", "weight norm", "pruned", "own train()", "parametrised"])
def test_views_of_other_networks_follow_training(name):
    net = make(name)
    pool = Pool([net])
    pool.give(pool.take())
    steps(torch.optim.SGD)(net)
    got = outputs(pool.take().modules[0])
    assert not torch.equal(got[0], reference(name)[0])
    assert_close(got, outputs(net.eval()))


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.a.register_forward_hook(lambda m, i, o: o + 1),
        lambda net: setattr(net.d, "p", 0.25),
        lambda net: net.log.append(net.a),
        lambda net: setattr(net, "extra", 1),
        lambda net: setattr(net.norm, "running_mean", None),
        lambda net: net.norm.running_mean.resize_(8),
        lambda net: setattr(net.a.weight, "data", net.a.weight.data.T),
    ],
)
def test_another_view_is_made_when_something_else_changes(change):
    net = Drops()
    view = view_of([net])
    assert view.refresh()
    change(net)
    assert not view.refresh()


def test_modes_and_equal_values_change_nothing():
    net = make("mlp").train()
    view, found = view_of([net]), fingerprint([net])
    net.eval()
    net.load_state_dict(copy.deepcopy(net.state_dict()))
    net[3].p = 1 / 2
    assert view.refresh() and fingerprint([net]) == found
    assert not any(module.training for module in view.parts())


# -- escapes -----------------------------------------------------------------------------------

NET = nn.Linear(4, 4)
TABLE = {"net": NET}


class Helper:
    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net.a(x)


def with_hook():
    net = Drops()
    net.a.register_forward_hook(lambda m, i, o: net.d(o))
    return net


def wrapped_forward():
    net = Drops()
    old = net.a.forward
    net.a.forward = lambda x: old(x)
    return net


def default(self):
    return lambda x, net=self.a: net(x)


ESCAPES = {
    "lambda": attribute("f", lambda s: lambda x: s.a(x), lambda s, x: s.f(x)),
    "default": attribute("f", default, lambda s, x: s.f(x)),
    "helper": attribute("h", Helper, lambda s, x: s.h(x)),
    "namespace": attribute("h", lambda s: types.SimpleNamespace(m=[s.a]), lambda s, x: s.h.m[0](x)),
    "array": attribute("h", lambda s: np.array([s.a, None]), lambda s, x: s.h[0](x)),
    "hook": with_hook,
    "wrapped forward": wrapped_forward,
    "class": type("Net", (Drops,), {"layer": nn.Linear(4, 4)}),
    "global": drops(lambda self: None, lambda self, x: NET(x)),
    "global in a container": drops(lambda self: None, lambda self, x: TABLE["net"](x)),
    "global in a nested function": drops(lambda s: None, lambda s, x: (lambda: NET(x))()),
    "script": lambda: nn.Sequential(nn.Linear(4, 4), scripted()),
    "script attribute": attribute("m", lambda s: {"m": scripted()}, lambda s, x: s.m["m"](x)),
}


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Dropout()))


@pytest.mark.parametrize("name", ESCAPES)
def test_what_reaches_the_original_is_named(name):
    reasons = escapes(view_of([ESCAPES[name]()]))
    assert reasons and all("modules[0]" in reason for reason in reasons)
    assert ("ScriptModule" in reasons[0]) == name.startswith("script")


def test_trainers_are_not_followed():
    net = Drops()
    net._trainer = Helper(net)
    view = view_of([net])
    assert escapes(view) == [] and view.modules[0]._trainer is net._trainer


def test_what_cannot_be_rebuilt_is_named():
    class Listed(list):
        def __init__(self):
            super().__init__()

        def __reduce_ex__(self, protocol):
            raise RuntimeError("no copies")

    net = Drops()
    net.listed = Listed()
    assert "no copies" in escapes(view_of([net]))[0]


def test_slots_are_followed():
    net = Slots()
    view = view_of([net])
    view.modules[0].inner = None
    assert view.refresh() and view.modules[0].inner == [view.of(net.a)]
    net.inner = [net.d]
    assert not view.refresh()


def test_weights_without_storage_get_a_view_each_time():
    for weight in (torch.eye(3).to_sparse(), torch.empty(3, device="meta")):
        net = nn.Module()
        net.weight = nn.Parameter(weight)
        view = view_of([net])
        assert type(view.modules[0].weight) is nn.Parameter and not view.refresh()


def test_layers_without_weights_are_refused():
    with pytest.raises(ValueError, match="run it once"):
        view_of([nn.LazyLinear(3)])


# -- pool --------------------------------------------------------------------------------------


def test_threads_do_not_see_each_other():
    pool, wrong = Pool([make("mlp").train()]), []

    def run(value):
        x = torch.full((3, 4), float(value))
        for _ in range(40):
            view, seen = pool.take(), []
            note = functools.partial(lambda seen, m, args: seen.append(args[0]), seen)
            handle = view.modules[0][0].register_forward_pre_hook(note)
            view.modules[0](x)
            handle.remove()
            pool.give(view)
            if len(seen) != 1 or seen[0] is not x:
                wrong.append(value)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(pool._free) <= 4


def test_a_view_with_hooks_left_is_not_kept():
    pool = Pool([make("mlp")])
    view = pool.take()
    handle = view.modules[0][0].register_forward_hook(lambda *_: None)
    pool.give(view)
    assert pool.take() is not view
    handle.remove()
    pool.give(view)
    assert pool.take() is view


def test_pools_are_saved_and_copied_without_views():
    net = make("mlp")
    pool = Pool([net])
    pool.give(pool.take())
    assert len(pickle.dumps(pool)) < len(pickle.dumps(net)) + 200
    for other in (pickle.loads(pickle.dumps(pool)), copy.deepcopy(pool), copy.copy(pool)):
        assert other._free == []
        assert_close(outputs(other.take().modules[0]), reference("mlp"))
    both = copy.deepcopy({"net": net, "pool": pool})
    assert both["pool"].modules[0] is both["net"]
    with pytest.raises(TypeError, match="not saved"):
        pickle.dumps(pool.take())


@pytest.mark.parametrize("name", ["mlp", "LSTM", "encoder", "hooked", "state in forward"])
def test_views_die_at_once(name):
    import gc

    view = view_of([make(name)])
    outputs(view.modules[0])
    parts = [weakref.ref(part) for part in view.parts()]
    gc.disable()
    try:
        del view
        assert not any(part() for part in parts)
    finally:
        gc.enable()


def test_graphs_are_not_kept():
    pool = Pool([make("state in forward")])
    view = pool.take()
    x = X.clone().requires_grad_()
    view.modules[0](x)
    kept = weakref.ref(x)
    pool.give(view)
    del x
    assert kept() is None


# -- fingerprint -------------------------------------------------------------------------------


def holding(*tensors):
    net = nn.Module()
    for i, tensor in enumerate(tensors):
        net.register_buffer(f"b{i}", tensor, persistent=False)
    return net


def csr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch: in beta state
        return torch.eye(3).to_sparse_csr()


TENSORS = {
    "float": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "scalar": torch.tensor(1.0),
    "bfloat16": torch.arange(6, dtype=torch.bfloat16),
    "bool": torch.tensor([True, False]),
    "complex": torch.tensor([1 + 2j, 3j]).conj(),
    "sparse": torch.eye(3).to_sparse(),
    "csr": csr(),
    "empty": torch.empty(0, 3),
}


@pytest.mark.parametrize("name", TENSORS)
def test_fingerprint_of_any_tensor(name):
    tensor = TENSORS[name]
    found = fingerprint([holding(tensor)])
    assert fingerprint([pickle.loads(pickle.dumps(holding(tensor)))]) == found
    assert fingerprint([holding(tensor.clone())]) == found
    other = tensor.clone()
    if tensor.numel():
        assert fingerprint([holding(other * 2 if name != "bool" else ~other)]) != found
    assert fingerprint([holding(tensor.to(torch.complex128))]) != found


def test_fingerprint_of_tensors_without_values():
    meta = fingerprint([holding(torch.empty(3, device="meta"))])
    assert meta == fingerprint([holding(torch.empty(3, device="meta"))])
    assert meta != fingerprint([holding(torch.empty(4, device="meta"))])
    assert isinstance(fingerprint([nn.LazyLinear(2)]), int)


def test_fingerprint_tells_names_and_shapes_apart():
    a, b = torch.zeros(2, 3), torch.zeros(3, 2)
    found = {fingerprint([holding(*tensors)]) for tensors in [(a,), (b,), (a, b), (b, a), ()]}
    assert len(found) == 5
    assert fingerprint([nn.Sequential(nn.Linear(2, 2, bias=False))]) != 0


@every_net
def test_fingerprint_of_equal_values_is_equal(name):
    net, other = make(name), make(name)
    found = fingerprint([net])
    assert fingerprint([other]) == found
    other.load_state_dict(net.state_dict())
    assert fingerprint([other]) == found


# -- switches ----------------------------------------------------------------------------------


def fast_path():
    return torch.backends.mha.get_fastpath_enabled()


def attention():
    return nn.MultiheadAttention(4, 2, batch_first=True)


def test_attention_is_exact_in_the_context_only():
    with exact_attention([nn.Linear(2, 2)], "cpu"):
        assert fast_path()
    with exact_attention([nn.Sequential(attention())], "cpu"):
        assert not fast_path()
        with exact_attention([attention()], "cpu"):
            pass
        assert not fast_path()
    assert fast_path()


def test_cudnn_is_off_for_recurrent_layers_on_a_gpu():
    enabled = torch.backends.cudnn.enabled
    with exact_attention([nn.LSTM(2, 2)], "cuda"):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled is enabled
    with exact_attention([nn.LSTM(2, 2)], "cpu"):
        assert torch.backends.cudnn.enabled is enabled


def test_cudnn_stays_on_but_rounds_as_torch_does_where_views_allow_it():
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    with exact_attention([nn.LSTM(2, 2)], "cuda", cudnn=True):
        assert torch.backends.cudnn.enabled is before[0]
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == before
    with exact_attention([nn.Conv1d(2, 2, 1)], "cuda", cudnn=True):
        assert torch.backends.cudnn.allow_tf32 is before[1]


@pytest.mark.skipif(
    not hasattr(torch.backends.cudnn, "rnn"), reason="torch has one switch for all layers"
)
def test_where_layers_round_differently_only_recurrent_ones_are_switched():
    rnn, conv = torch.backends.cudnn.rnn, torch.backends.cudnn.conv
    before = rnn.fp32_precision, conv.fp32_precision
    try:
        rnn.fp32_precision, conv.fp32_precision = "tf32", "ieee"
        with exact_attention([nn.GRU(2, 2)], "cuda", cudnn=True):
            assert (rnn.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
        assert (rnn.fp32_precision, conv.fp32_precision) == ("tf32", "ieee")
    finally:
        rnn.fp32_precision, conv.fp32_precision = before


class OwnLSTM(nn.LSTM):
    pass


def test_views_compute_the_same_in_the_mode_that_cudnn_needs():
    net = nn.LSTM(3, 4, num_layers=2, dropout=0.5, batch_first=True).eval()
    x, before = torch.randn(2, 5, 3), copy.deepcopy(vars(net))
    pool = Pool([net], keep_cudnn)
    for _ in range(2):
        view = pool.take()
        (twin,) = view.modules
        assert twin.training and twin.dropout == 0.0
        assert torch.equal(twin(x)[0], net(x)[0])
        pool.give(view)
    assert pool.take() is view
    assert (net.training, net.dropout) == (before["training"], before["dropout"])
    assert view.modules[0]._parameters["weight_hh_l0"].is_set_to(net.weight_hh_l0)
    net.dropout = 0.3  # a view of it as it is now
    pool.give(view)
    assert pool.take().modules[0].dropout == 0.0
    assert may_keep_cudnn([nn.Sequential(net, nn.Linear(4, 2))])
    assert not may_keep_cudnn([nn.Sequential(net, OwnLSTM(4, 2))])  # whose code may ask its mode


def test_the_fast_path_stays_off_if_it_was():
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with exact_attention([attention()], "cpu"):
            assert not fast_path()
        assert not fast_path()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_threads_switch_together():
    nets, wrong = [attention()], []

    def run():
        for _ in range(200):
            with exact_attention(nets, "cpu"):
                if fast_path():
                    wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and fast_path()


def interrupted_at(step, nets):
    """Enter and leave, with an interrupt before the given step of ours; say if it came."""
    files = (_switches.__file__, __import__("contextlib").__file__)
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == step:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        with exact_attention(nets, "cpu"):
            pass
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_anywhere_leaves_nothing_switched_off():
    nets, step = [attention()], 1
    while interrupted_at(step, nets):
        assert fast_path(), step
        assert not _switches._ATTENTION.users, step
        with exact_attention(nets, "cpu"):
            assert not fast_path(), step
        assert fast_path(), step
        step += 1
    assert step > 50


# -- undocumented names of torch ---------------------------------------------------------------


def test_name_compiled_call_impl():
    net = nn.Linear(2, 2)
    net.compile(backend="eager")
    assert net._compiled_call_impl is not None
    assert view_of([net]).modules[0]._compiled_call_impl is None


def test_name_orig_mod():
    inner = nn.Linear(2, 2)
    net = torch.compile(inner, backend="eager")
    assert net._orig_mod is inner
    view = view_of([net])
    assert type(view.modules[0]) is nn.Linear and view.of(net) is view.of(inner)


def test_name_torchdynamo_orig_callable():
    net = Drops()
    net.f = torch.compile(net.act, backend="eager")
    assert net.f._torchdynamo_orig_callable == net.act
    twin = view_of([net]).modules[0]
    assert twin.f == twin.act


def test_name_wrapped_hook():
    net = nn.Linear(2, 2)
    net._register_load_state_dict_pre_hook(lambda *_: None, with_module=True)
    (hook,) = net._load_state_dict_pre_hooks.values()
    assert type(hook).__name__ == "_WrappedHook"
    twin = view_of([net]).modules[0]
    assert [*twin._load_state_dict_pre_hooks.values()][0].module() is twin


def test_name_use_nested_tensor():
    net = nn.TransformerEncoder(encoder_layer(), 1)
    assert net.use_nested_tensor is True
    assert view_of([net]).modules[0].use_nested_tensor is False


def test_name_foreach_copy(monkeypatch):
    net = make("mlp")
    view = view_of([net])
    monkeypatch.delattr(torch, "_foreach_copy_")
    net[1].running_mean += 1
    assert view.refresh()
    assert torch.equal(view.modules[0][1].running_mean, net[1].running_mean)


def test_name_flat_weights():
    net = nn.LSTM(2, 2)
    twin = view_of([net]).modules[0]
    assert all(a is b for a, b in zip(twin._flat_weights, twin.parameters(), strict=True))
    assert all(
        ref() is w for ref, w in zip(twin._flat_weight_refs, twin._flat_weights, strict=True)
    )


def test_numpy_generators_are_copied():
    net = nn.Linear(2, 2)
    net.new, net.old = np.random.default_rng(0), np.random.RandomState(0)
    view = view_of([net])
    twin = view.modules[0]
    draws = twin.new.random(), twin.old.rand()
    assert view.refresh() and (twin.new.random(), twin.old.rand()) == draws
    assert (net.new.random(), net.old.rand()) == draws


def test_an_attribute_is_no_global_of_the_same_name(monkeypatch):
    """A script's variable that is called as a part of the network is, is not used by it."""
    monkeypatch.setitem(globals(), "first_layer", nn.Linear(2, 2))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first_layer = nn.Linear(2, 3)

        def forward(self, x):
            return self.first_layer(x)

    class UsesGlobal(Net):
        def forward(self, x):
            return self.first_layer(first_layer(x))  # noqa: F821

    assert escapes(view_of([Net()])) == []
    assert "first_layer" in escapes(view_of([UsesGlobal()]))[0]
