"""Maps where a Jacobian has few columns, or is the same at all samples, beside backward passes.

Maps of all output units at one layer (mean absolute value over the channels, variance over the
units), as `EmbeddingAttributor` takes them, in two regimes, each beside the same maps by backward
passes of all units at all samples, in turns in one process:

- few columns: the outputs of an autoencoder at its code of 8 units. A pass an activation does.
- affine end: 64 units, of the average of a convolution's channels. A pass serves as many units as
  there are samples.
"""

import torch
from torch import nn

from sklexplain.layers import find_points, layer_maps
from sklexplain.nets import Conv1dAutoencoder, LSTMAutoencoder, MLPAutoencoder

from .._runner import Benchmark
from ..common import markdown_table, side_by_side

SALIENCIES = ("activation_x_gradient", "gradient", "grad_cam")


def decoder(kind, shape):
    """A whole autoencoder, looked at in its code, what the encoder returns."""
    module = kind(shape, 8)
    return nn.Sequential(module.encoder, module.decoder), "0", shape


def classifier():
    """Two convolutions, their average and a linear layer."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64)),
    )
    return net, "3", (1, 28, 28)


CASES = {
    "mlp, 784 outputs": (lambda: decoder(MLPAutoencoder, (784,)), SALIENCIES[:1]),
    "mlp, 140 outputs": (lambda: decoder(MLPAutoencoder, (140,)), SALIENCIES[:1]),
    "conv1d, 140 outputs": (lambda: decoder(Conv1dAutoencoder, (140,)), SALIENCIES[:1]),
    "lstm, 140 outputs": (lambda: decoder(LSTMAutoencoder, (140,)), SALIENCIES[:1]),
    "conv2d, 64 outputs": (classifier, SALIENCIES),
}


def compare(make, saliency, args):
    """Seconds of both, the ratio, and the largest difference of the maps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, layer, shape = make()
        x = torch.randn(args.n_samples, *shape)
    net.eval().requires_grad_(False)
    points = find_points(net, x, dict(net.named_modules()), layers=[layer])
    plain = points.only(0)
    plain.batched.update(affine=False, columns=False)

    def maps(points):
        params = {"saliency": saliency, "channel_agg": "abs", "unit_agg": "var"}
        return layer_maps(net, points, x, rows=args.rows, **params)[0]

    ours, theirs = maps(points), maps(plain)
    return {
        "regime": "affine end" if points.batched["affine"] else "few columns",
        "found": dict(points.batched),
        "n_units": points.n_units,
        "largest_relative_difference": float(
            f"{((ours - theirs).abs().max() / theirs.abs().max()).item():.2g}"
        ),
        **side_by_side(lambda: maps(points), lambda: maps(plain), args.n_turns),
    }


def render(results):
    """Return the section as Markdown."""
    rows = []
    for name, by_saliency in results["speed"].items():
        for saliency, entry in by_saliency.items():
            faster = 1 / entry["cpu_ratio"]
            difference = entry["largest_relative_difference"]
            times = [f"{1e3 * entry[f'{who}_cpu_seconds']:.3g}" for who in ("ours", "theirs")]
            rows.append(
                [name, entry["regime"], saliency, *times, f"{faster:.3g}", f"{difference:.1g}"]
            )
    header = ["network", "regime", "saliency", "ours, ms", "backward passes, ms"]
    header += ["times faster", "largest relative difference"]
    settings = results["settings"]
    return "\n\n".join(
        [
            "## Speed of Jacobians in two regimes",
            "Maps of all output units at one layer. Few columns: an autoencoder's outputs at its "
            "code of 8 units, by a pass an activation. Affine end: an averaged convolution and a "
            "linear layer, by a pass for as many units as samples. Beside them the same maps by "
            "backward passes of all units at all samples; in turns, least processor times and "
            "median of their ratio. "
            f"{settings['n_samples']} samples, {settings['n_turns']} turns, one thread; the "
            "machine did other work as well.",
            markdown_table(header, rows),
        ]
    )


def measure(args, results, save):
    results["speed"] = {}
    for name, (make, saliencies) in CASES.items():
        results["speed"][name] = {}
        for saliency in saliencies:
            results["speed"][name][saliency] = compare(make, saliency, args)


BENCHMARK = Benchmark(
    section="speed of Jacobians in two regimes",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_turns": 7, "n_samples": 100, "rows": 1024},
    smoke={"n_turns": 1, "n_samples": 8},
    threads=1,
    resume=False,
)
