"""Explaining and training on a GPU: is it right, and how far is it from what the card can do?

First every explainer is run on a small problem, on the CPU and on the GPU, and compared. Then come
times, both sides in one process in turns: ours is all that a user pays for ``transform(X)``, from
an array in the processor's memory to one there; the floor is the same passes in plain torch on
tensors that are on the card already, in the best of several block sizes, and nothing else; captum's
is ``attribute(x, target=0)`` for one output, with tensors on the card. Training is beside the same
on the CPU. Where there is no GPU nothing is measured.

    python -m benchmarks speed.gpu                 # under 4 minutes
    python -m benchmarks speed.gpu --variants      # and the sizes that were chosen, beside others
"""

import time
import warnings

import numpy as np
import torch
from torch import nn

from sklexplain import InfluenceImportance, LabelFreeAttributor, SRAEExplainer, VarianceScorer
from sklexplain.layers import _jacobian, _memory
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder
from sklexplain.representation import _representation

from .._runner import Benchmark, Skip
from ..common import markdown_table, rounded
from ._gpu_explainers import EXPLANATIONS, largest_difference
from ._gpu_networks import LSTM, resnet18

N_STEPS = 50
MOST_DIFFERENCE = 1e-3  # over the largest number, in single precision
BLOCKS = (1024, 16_384, 65_536, 262_144, 1_048_576)
BLOCKS_OF_IMAGES = (64, 128, 256, 512, 1024)


def networks(args):
    """Return networks by name, each with how many samples of which shape it is timed on."""
    mlp = nn.Sequential(
        nn.Linear(50, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8)
    )
    conv = nn.Sequential(
        *(nn.Conv1d(1, 16, 7, 2, 3), nn.ReLU(), nn.Conv1d(16, 32, 7, 2, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 35, 8)),
    )
    side = args.image_size
    return {
        "MLP": (mlp, (args.n_rows, 50)),
        "conv1d": (conv, (args.n_series, 1, 140)),
        "LSTM": (LSTM(), (args.n_recurrent, 1, 140)),
        "ResNet-18": (resnet18(args.resnet_width), (args.n_images, 3, side, side)),
    }


# -- timing --------------------------------------------------------------------------------------


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function, device, n_repeats, warm_up=True):
    """Return how long each of several calls takes, with everything that the card still does."""
    if warm_up:
        function()
    found = []
    for _ in range(n_repeats):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        found.append(time.perf_counter() - start)
    return found


def summary(found):
    """Median and quartiles."""
    return {
        "seconds": rounded(np.median(found), 6),
        "quartiles": rounded(np.percentile(found, [25, 75]), 6),
        "n_repeats": len(found),
    }


def in_turns(functions, device, n_repeats):
    """Time functions of nothing by name, one call of each in every turn."""
    for function in functions.values():
        function()
    found = {name: [] for name in functions}
    for _ in range(n_repeats):
        for name, function in functions.items():
            found[name] += seconds(function, device, 1, warm_up=False)
    return {name: summary(values) for name, values in found.items()}


# -- integrated gradients ------------------------------------------------------------------------


def path_passes(net, x, block, device):
    """Forward and backward passes over all points of the paths, ``block`` rows at once."""
    steps = torch.linspace(0, 1, N_STEPS, device=device)
    at_once = max(1, block // N_STEPS)
    total = torch.empty_like(x)
    with torch.no_grad():
        z = torch.cat([net(part) for part in x.split(max(1, min(block, len(x))))])
    for i in range(0, len(x), at_once):
        part, c = x[i : i + at_once], z[i : i + at_once]
        for s in steps.split(min(N_STEPS, block)):
            points = (part[:, None] * s.view(1, -1, *[1] * (x.ndim - 1))).flatten(0, 1)
            points.requires_grad_()
            cotangent = c.repeat_interleave(len(s), dim=0)
            (gradient,) = torch.autograd.grad(net(points), points, cotangent)
            total[i : i + at_once] = gradient.unflatten(0, (len(part), -1)).mean(dim=1)
    return total


def mode_for_floor(net):
    """Recurrent layers need the mode of training for cuDNN's backward pass; nothing else here."""
    net.eval()
    for part in net.modules():
        if isinstance(part, nn.RNNBase):
            part.train()
    return net.requires_grad_(False)


def best_block(net, x, device):
    """Return the block size that is fastest for the floor."""
    best = None
    for block in BLOCKS if x[0].numel() < 10_000 else BLOCKS_OF_IMAGES:
        try:
            took = min(seconds(lambda b=block: path_passes(net, x, b, device), device, 1))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if best is not None and took > 1.2 * best[0]:
            break
        best = (took, block) if best is None or took < best[0] else best
    return best[1]


def captums(net, x, device, n_repeats):
    """Time captum once it is warm; None where it is not installed."""
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        return None
    attribute = IntegratedGradients(net).attribute
    block = 64 * N_STEPS if x[0].numel() < 10_000 else 2 * N_STEPS
    options = {"target": 0, "n_steps": N_STEPS}
    attribute(x[:2], **options)
    took = []
    for size in (None, block):  # all rows at once, as it does by itself, where there is room
        try:
            call = lambda size=size: attribute(x, internal_batch_size=size, **options)  # noqa: E731
            took.append(seconds(call, device, n_repeats, warm_up=False))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if took and np.median(took[0]) > 2:
            break
    return summary(min(took, key=np.median))


def integrated_gradients(name, args, device):
    net, shape = networks(args)[name]
    X = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    net = net.eval().to(device)
    explainer = LabelFreeAttributor(net, baseline="zeros", method_params={"n_steps": N_STEPS}).fit(
        X[: min(len(X), 200)]
    )
    floor, x = mode_for_floor(networks(args)[name][0]).to(device), torch.from_numpy(X).to(device)
    block = best_block(floor, x, device)
    functions = {
        "ours": lambda: explainer.transform(X),
        "floor": lambda: path_passes(floor, x, block, device),
    }
    if name != "ResNet-18":
        fixed = LabelFreeAttributor(
            net, baseline="zeros", method_params={"n_steps": N_STEPS}, batch_size=1024
        ).fit(X[: min(len(X), 200)])
        functions["batch_size=1024"] = lambda: fixed.transform(X)
    entry = {"shape": list(shape), **in_turns(functions, device, args.n_repeats)}
    entry["floor"]["block"] = block
    entry["rows at once"] = explainer._representation.block_rows(
        explainer._params_at_fit.batch_size
    )
    found = captums(floor, x, device, 1)
    return entry if found is None else entry | {"captum": found}


# -- scores --------------------------------------------------------------------------------------


def unit_passes(net, layers, x):
    """Gradients of all units at all layers, all units at once, in plain torch."""
    seen = []
    handles = [m.register_forward_hook(lambda *a: seen.append(a[2])) for m in layers]
    n_units = net(x[:1]).shape[1]
    seen.clear()
    z = net(x.expand(n_units, *x.shape).flatten(0, 1).clone().requires_grad_())
    cotangent = torch.eye(n_units, device=x.device).repeat_interleave(len(x), dim=0)
    maps = [g.mean(dim=1).abs() for g in torch.autograd.grad(z, seen, cotangent)]
    for handle in handles:
        handle.remove()
    return [m.unflatten(0, (n_units, -1)).var(dim=0) for m in maps]


def variance_scores(args, device):
    net = networks(args)["ResNet-18"][0].eval().to(device).requires_grad_(False)
    side, n = args.image_size, args.n_scored
    X = np.random.RandomState(0).normal(size=(n, 3, side, side)).astype(np.float32)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    x = torch.from_numpy(X).to(device)
    functions = {"floor": lambda: [unit_passes(net, layers, row[None]) for row in x]}
    expected = None
    for batch_size in ("auto", *args.score_batches):
        scorer = VarianceScorer(net, batch_size=batch_size).fit(X)
        found = scorer.transform(X)
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=1e-4)
        name = "ours" if batch_size == "auto" else f"batch_size={batch_size}"
        functions[name] = lambda scorer=scorer: scorer.transform(X)
    n_units = scorer.n_units_
    return {"n_units": n_units, "n_samples": n, **in_turns(functions, device, args.n_repeats)}


# -- training ------------------------------------------------------------------------------------


def trainers(args):
    X = np.random.RandomState(0).normal(size=(args.n_trained, 140)).astype(np.float32)
    encoder = nn.Sequential(nn.Linear(140, 64), nn.ReLU(), nn.Linear(64, 16), nn.Tanh()).eval()
    brief = {"max_epochs": args.n_epochs, "validation_split": None, "random_state": 0}
    return {
        "SRAE": lambda device: SRAEExplainer(encoder, device=device, **brief).fit(X),
        "Autoencoder": lambda device: Autoencoder(device=device, **brief).fit(X),
        "VariationalAutoencoder": lambda device: VariationalAutoencoder(device=device, **brief).fit(
            X
        ),
        "ContrastiveEncoder": lambda device: ContrastiveEncoder(device=device, **brief).fit(X),
    }


def training(name, args, device):
    fit, few = trainers(args)[name], 1
    fit(str(device))  # kernels are loaded, and memory is taken
    ours = seconds(lambda: fit(str(device)), device, few + 1, warm_up=False)
    cpu = seconds(lambda: fit("cpu"), torch.device("cpu"), few, warm_up=False)
    entry = {"ours": summary(ours), "CPU": summary(cpu), "n_epochs": args.n_epochs}
    return entry | {"n_samples": args.n_trained}


def influence(args, device):
    X = np.random.RandomState(0).normal(size=(args.n_examples, 140)).astype(np.float32)
    learner = Autoencoder(
        hidden_layer_sizes=(16,), max_epochs=1, validation_split=None, random_state=0
    ).fit(X)
    entry = {"n_examples": len(X), "n_queries": len(X)}
    for name, where in (("ours", device), ("CPU", torch.device("cpu"))):
        explainer = InfluenceImportance(
            learner, solver="exact", damping=1e-2, device=str(where), random_state=0
        )
        fit = seconds(lambda e=explainer: e.fit(X), where, 2)
        transform = seconds(lambda e=explainer: e.transform(X), where, 2)
        entry |= {f"{name}, fit": summary(fit), f"{name}, transform": summary(transform)}
    return entry


def conjugate_gradients(args, device):
    X = np.random.RandomState(0).normal(size=(args.n_examples, 140)).astype(np.float32)
    learner = Autoencoder(
        hidden_layer_sizes=(16,), max_epochs=1, validation_split=None, random_state=0
    ).fit(X)
    entry, queries = {"n_examples": len(X), "n_queries": args.n_queries}, X[: args.n_queries]
    params = {"solver": "cg", "damping": 1e-2, "tol": 1e-3, "random_state": 0}
    explainer = InfluenceImportance(learner, device=str(device), **params).fit(X)
    found = seconds(lambda: explainer.transform(queries), device, 1, warm_up=False)
    return entry | {"ours": summary(found)}


# -- variants: what was chosen, beside other choices -----------------------------------------------


def variants(args, device):
    """Time other choices of constants; printed and recorded, not on the page."""
    found, few = {}, 3
    net, shape = networks(args)["MLP"]
    X = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    explainer = LabelFreeAttributor(net.eval().to(device), baseline="zeros").fit(X[:200])
    for rows in (2**14, 2**16, 2**18, 2**20):
        with replaced(_memory, _GPU_ROWS=rows):
            took = seconds(lambda: explainer.transform(X), device, few)
        found[f"IG, MLP, at most {rows} rows"] = summary(took)
    big = np.random.RandomState(0).normal(size=(2**21, 50)).astype(np.float32)
    for name, least in (("pinned", 2**20), ("as it is", 2**62)):
        with replaced(_representation, _PINNED_FROM=least):
            took = seconds(lambda: explainer._representation.tensor(big), device, few)
        found[f"{big.nbytes / 2**20:.0f} MB to the GPU, {name}"] = summary(took)
    net = networks(args)["ResNet-18"][0].eval().to(device)
    image = np.random.RandomState(0).normal(size=(1, 3, *[args.image_size] * 2)).astype("f")
    scorer = VarianceScorer(net).fit(image)
    for per_copy in (1, 2, 4, 8, 16, 10**9):
        with replaced(_jacobian, _UNITS_PER_COPY=per_copy):
            took = seconds(lambda: scorer.transform(image), device, few)
        found[f"variance score, {per_copy} units a copy"] = summary(took)
    for large in (2**22, 2**30, 2**62):
        with replaced(_jacobian, _LARGE=large):
            took = seconds(lambda: scorer.transform(image), device, few)
        found[f"variance score, large from {large / 2**20:.0f} MB on"] = summary(took)
    for batch_size in (16, 64, 128, 256, 1024, "auto"):
        scorer.set_params(batch_size=batch_size)
        took = seconds(lambda: scorer.transform(image), device, few)
        found[f"variance score, batch_size={batch_size}"] = summary(took)
    for name, entry in found.items():
        print(f"{name}: {1000 * entry['seconds']:.2f} ms", flush=True)
    return found


class replaced:
    """Give a module other constants for a while."""

    def __init__(self, module, **values):
        self.module, self.values = module, values

    def __enter__(self):
        self.before = {name: getattr(self.module, name) for name in self.values}
        vars(self.module).update(self.values)

    def __exit__(self, *error):
        vars(self.module).update(self.before)


# -- the script ----------------------------------------------------------------------------------


def card(device):
    if device.type != "cuda":
        return {"name": "none: a trial on the CPU"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def equality(args, device):
    """Compare every explainer on the device with the CPU, without rounding to ten bits."""
    names = list(EXPLANATIONS)[:: args.every]
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        found = {}
        for name in names:
            try:
                found[name] = rounded(largest_difference(name, device.type), 9)
            except Exception as error:  # the others are compared all the same
                found[name] = None
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
            if found[name] is None or not found[name] <= MOST_DIFFERENCE:
                print(f"DIFFERENT from the CPU: {name}, by {found[name]}", flush=True)
        return found
    finally:
        torch.backends.cudnn.allow_tf32 = before


def measure(args, results, save):
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Skip("speed.gpu measures nothing: torch finds no GPU on this machine.")
    torch.manual_seed(0)
    results["gpu"] = card(device)
    tasks = {"equality": lambda: equality(args, device)}
    for name in networks(args):
        tasks[f"integrated gradients, {name}"] = lambda n=name: integrated_gradients(
            n, args, device
        )
    tasks["variance score"] = lambda: variance_scores(args, device)
    for name in trainers(args):
        tasks[f"training, {name}"] = lambda n=name: training(n, args, device)
    tasks["influence"] = lambda: influence(args, device)
    tasks["conjugate gradients"] = lambda: conjugate_gradients(args, device)
    if args.variants:
        tasks["variants"] = lambda: variants(args, device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of networks without training
        for name, compute in tasks.items():
            start = time.perf_counter()
            try:
                results[name] = compute()
            except Exception as error:  # a machine is rented once: the other rows still count
                results[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
                print(f"{name}: {results[name]['error']}", flush=True)
            save()
            line = {k: v["seconds"] for k, v in results[name].items() if _is_time(v)}
            print(f"{name}: {time.perf_counter() - start:.1f} s {line}", flush=True)


def _is_time(value):
    return isinstance(value, dict) and "seconds" in value


def _ms(entry):
    if entry is None:
        return "–"
    low, high = entry["quartiles"]
    return f"{1000 * entry['seconds']:.1f} ({1000 * low:.1f}–{1000 * high:.1f})"


def _rows(results):
    for name, entry in results.items():
        if name in ("settings", "environment", "gpu", "equality", "variants"):
            continue
        if "error" in entry:
            continue
        if name == "influence":
            for part in ("fit", "transform"):
                ours, cpu = (entry[f"{who}, {part}"] for who in ("ours", "CPU"))
                yield [f"influence, exact, {part}", _ms(ours), "–", "–", _ms(cpu), "–"]
            continue
        other = {k: v for k, v in entry.items() if k.startswith("batch_size=")}
        words = "; ".join(f"{k[11:]}: {1000 * v['seconds']:.1f}" for k, v in other.items())
        columns = (entry.get(k) for k in ("ours", "floor", "captum", "CPU"))
        yield [name, *map(_ms, columns), words or "–"]


def render(results):
    """Return the section as Markdown."""
    gpu, machine, settings = results["gpu"], results["environment"], results["settings"]
    found = results["equality"]
    worst = max((d for d in found.values() if d is not None), default=float("nan"))
    header = [
        "work",
        "ours, ms",
        "floor, ms",
        "captum, ms",
        "CPU, ms",
        "with a fixed batch_size, ms",
    ]
    n_agree = sum(d is not None and d <= MOST_DIFFERENCE for d in found.values())
    shapes = (
        f"Integrated gradients ({N_STEPS} steps): {settings['n_rows']} × 50 through an MLP, "
        f"{settings['n_series']} × 140 through a convolutional network, {settings['n_recurrent']} "
        f"× 140 through an LSTM, {settings['n_images']} × 3 × {settings['image_size']}² through "
        f"ResNet-18. The variance score is of all units at all convolutions of ResNet-18, "
        f"{settings['n_scored']} image. Training: {settings['n_trained']} × 140, "
        f"{settings['n_epochs']} epochs. Influence: {settings['n_examples']} examples and as many "
        f"queries; by conjugate gradients {settings['n_queries']} queries."
    )
    return "\n\n".join(
        [
            "## Speed on a GPU",
            f"{gpu['name']}, {machine['n_cores']} cores ({machine['processor']}, "
            f"{machine['torch_threads']} thread(s)), torch {machine['torch']}. Medians in "
            "milliseconds, quartiles in brackets. Ours is all of `transform(X)` or `fit(X)`, from "
            "an array in the processor's memory to one there; the floor is the passes alone, in "
            "plain torch on tensors that are on the card, in the best of several block sizes; "
            "captum explains one output, ours the whole representation. Made by "
            f"`benchmarks/speed/gpu.py`. {shapes}",
            markdown_table(header, _rows(results)),
            f"Every explainer was compared with itself on the CPU first: {n_agree} of {len(found)} "
            f"comparisons agree to {MOST_DIFFERENCE:g} of the largest number; the largest "
            f"difference is {worst:.1g}.",
        ]
    )


BENCHMARK = Benchmark(
    section="speed on a GPU",
    page="speed.md",
    measure=measure,
    render=render,
    settings={
        "device": "cuda",
        "n_rows": 10_000,
        "n_series": 4500,
        "n_recurrent": 1000,
        "n_images": 64,
        "image_size": 224,
        "resnet_width": 64,
        "n_scored": 1,
        "score_batches": [64, 256, 1024],
        "n_trained": 5000,
        "n_epochs": 10,
        "n_examples": 1000,
        "n_queries": 100,
        "n_repeats": 5,
    },
    options={"every": 1, "variants": False},
    fixed={"n_steps": N_STEPS},
    smoke={
        "device": "cpu",
        "n_rows": 6,
        "n_series": 4,
        "n_recurrent": 2,
        "n_images": 1,
        "image_size": 32,
        "resnet_width": 2,
        "score_batches": [4],
        "n_trained": 70,
        "n_epochs": 1,
        "n_examples": 20,
        "n_queries": 2,
        "n_repeats": 1,
        "every": 9,
    },
    resume=False,
)
