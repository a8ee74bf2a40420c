"""Maps of single latent units of disentangled VAEs: figures 5, 6 and 8 of label-free XAI.

Crabbé & van der Schaar (2022), section 4.3 and appendix C.3. β-VAEs and TC-VAEs with three latent
units are trained on MNIST; then the maps of their units are correlated, and the entropy of how the
importance of a pixel is spread over units is computed, for each β.

A piece is one seed and one network: ``--seeds 3 --part TC`` computes the TC-VAEs of seed 3. One
network takes about a quarter of an hour on a core, and less than a minute with a GPU to itself
(``--device cuda``).
"""

import time
import warnings
from functools import partial

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.metrics import active_units, saliency_entropy, unit_correlation
from sklexplain.nets import VariationalAutoencoder

from .._runner import Benchmark, Option, complete
from ..common import load_digits_28x28, rounded
from ._vae_disentangling_page import MEASURES, METHODS, UNTRAINED, name_of, render

BLACK = 2  # rows and columns of black pixels on each side: 28 x 28 to 32 x 32


class PaperNetwork(nn.Module):
    """Encoder and decoder of the paper's table 8, for images of 32 x 32.

    The decoder returns logits, and mirrors the encoder: the table's output paddings do not fit.

    Parameters
    ----------
    n_components : int, default=3
        Length of the code.
    """

    def __init__(self, n_components=3):
        super().__init__()

        def layers(kind, *channels):
            made = []
            for n_in, n_out in zip(channels, channels[1:], strict=False):
                made += [kind(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
            return made

        def linear(*sizes):
            pairs = zip(sizes, sizes[1:], strict=False)
            return [part for a, b in pairs for part in (nn.Linear(a, b), nn.ReLU())]

        self.encoder = nn.Sequential(
            *layers(nn.Conv2d, 1, 32, 32, 32),
            nn.Flatten(),
            *linear(512, 256, 256),
            nn.Linear(256, n_components),
        )
        self.decoder = nn.Sequential(
            *linear(n_components, 256, 256, 512),
            nn.Unflatten(1, (32, 4, 4)),
            *layers(nn.ConvTranspose2d, 32, 32, 32, 1)[:-1],
        )


def split_digits(seed, args):
    """Return training and test digits, padded: 2,000 of 10,000 are for tests."""
    X, _ = load_digits_28x28()
    X = np.pad(X, ((0, 0), (0, 0), (BLACK, BLACK), (BLACK, BLACK)))
    X = X[np.random.RandomState(seed).permutation(len(X))]
    return X[: args.n_train], X[8000 : 8000 + args.n_test]


def network(beta, total_correlation, seed, args):
    return VariationalAutoencoder(
        PaperNetwork,
        n_components=3,
        beta=beta,
        total_correlation=total_correlation,
        likelihood="bernoulli",
        max_epochs=args.epochs,
        patience=args.patience,
        batch_size=args.batch_size,
        device=args.device,
        random_state=seed,
    )


def one_run(seed, beta, total_correlation, args):
    """Train a network, or leave it untrained if beta is None, and look at its units' maps."""
    start = time.perf_counter()
    X_train, X_test = split_digits(seed, args)
    with warnings.catch_warnings():
        # Whether training has come to its end is written into the results.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if beta is None:
            vae = network(1.0, False, seed, args).initialize(X_train)
            vae.load_state_dict(vae.net_.module_.state_dict())
        else:
            vae = network(beta, total_correlation, seed, args).fit(X_train)
    minutes = (time.perf_counter() - start) / 60
    found = training_of(vae) | units_of(vae, X_test)
    found["maps"] = {
        method: maps_of(vae, method, X_train, X_test[: args.n_explained], found["active"], seed)
        for method in METHODS
    }
    return found | {"minutes_training": rounded(minutes, 2)}


def training_of(vae):
    """Say how long training was, and whether it had come to its end."""
    found = {"n_epochs": vae.n_epochs_, "stopped_early": 0 < vae.n_epochs_ < vae.max_epochs}
    if vae.validation_loss_curve_:
        losses = np.array(vae.validation_loss_curve_)
        at = len(losses) - max(1, len(losses) // 10)
        found["validation_loss"] = rounded(losses.min(), 3)
        if at > 0:  # in nats a sample, what the last tenth of the epochs has brought
            found["last_gain"] = rounded(losses[:at].min() - losses.min(), 3)
    return found


def units_of(vae, X_test):
    """Say how well digits are rebuilt, and what the units tell of them."""
    codes = vae.transform(X_test)
    rebuilt = vae.inverse_transform(codes)
    divergence = []
    with torch.no_grad():
        for rows in torch.from_numpy(X_test).split(500):
            mean, log_variance = vae.net_.module_.posterior(rows.to(vae.net_.device))
            divergence.append((mean.square() + log_variance.exp() - 1 - log_variance).cpu() / 2)
    correlation = np.corrcoef(codes.astype(np.float64), rowvar=False)
    return {
        "elbo": rounded(vae.score(X_test), 3),
        "r2": rounded(1 - ((X_test - rebuilt) ** 2).mean() / X_test.var(axis=0).mean()),
        "divergence": rounded(torch.cat(divergence).mean(dim=0).numpy(), 4),
        "variance_of_codes": rounded(codes.var(axis=0)),
        "correlation_of_codes": rounded(np.abs(correlation[np.triu_indices(3, 1)]).mean()),
        "active": active_units(codes).tolist(),
    }


def maps_of(vae, method, X_train, X, active, seed):
    """Correlation and entropy of the units' maps of test digits."""
    attributor = LabelFreeAttributor(vae, method=method, baseline="zeros", random_state=seed)
    maps = attributor.fit(X_train).unit_attributions(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units whose maps are constant; results have nan then
        size = np.abs(maps).mean(axis=(0, 2, 3, 4), keepdims=True)
        found = {
            "pearson": unit_correlation(maps),
            "pearson_absolute": unit_correlation(np.abs(maps)),
            "entropy": saliency_entropy(maps),
            "entropy_equal_scale": saliency_entropy(maps / np.where(size > 0, size, 1)),
        }
        if sum(active) > 1:
            found["pearson_active"] = unit_correlation(maps[:, active])
            found["entropy_active"] = saliency_entropy(maps[:, active]) / np.log(sum(active))
    return {name: rounded(value) for name, value in found.items() if np.isfinite(value)}


def measure(args, results, save):
    kinds = [(beta, tc) for tc in (False, True) for beta in args.betas if not (tc and beta == 1)]
    tasks = {}
    for seed in args.seeds:
        for beta, tc in [*kinds, (None, False)]:
            if args.part is not None and tc != (args.part == "TC"):
                continue
            name = UNTRAINED if beta is None else name_of(beta, tc)
            tasks[f"seed {seed}, {name}"] = partial(one_run, seed, beta, tc, args)
    complete(results.setdefault("runs", {}), tasks, save)


def summarize(results):
    """Spearman's correlation of β with what is measured, over all runs of a kind of network."""
    betas, runs = results["settings"]["betas"], results["runs"]
    plain = {beta: name_of(beta, False) for beta in betas}
    groups = {
        "β-VAE": plain,
        "TC-VAE": {beta: name_of(beta, beta != 1) for beta in betas},
    }
    found = {}
    for key in [f"{method}, {what}" for method in METHODS for what in MEASURES]:
        method, what = key.split(", ")
        pairs = {
            kind: [
                (beta, run["maps"][method][what])
                for beta, name in names.items()
                for piece, run in runs.items()
                if piece.split(", ", 1)[1] == name and what in run["maps"][method]
            ]
            for kind, names in groups.items()
        }
        # Of both kinds β = 1 is the same network.
        pairs["both"] = pairs["β-VAE"] + [pair for pair in pairs["TC-VAE"] if pair[0] != 1]
        for kind, values in pairs.items():
            found.setdefault(kind, {})[key] = _ranked(values)
    results["spearman"] = found


def _ranked(pairs):
    if len({beta for beta, _ in pairs}) < 2 or len({value for _, value in pairs}) < 2:
        return {"rho": None, "p": None, "n": len(pairs)}
    found = spearmanr(*zip(*pairs, strict=True))
    p = rounded(found.pvalue) if len(pairs) > 2 else None
    return {"rho": rounded(found.statistic, 3), "p": p, "n": len(pairs)}


BENCHMARK = Benchmark(
    section="units of disentangled VAEs",
    page="label_free.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "betas": Option([1.0, 5.0, 10.0], "weights of the divergence, or total correlation"),
        "epochs": Option(80, "at most"),
        "patience": 10,
        "batch_size": 128,
        "n_train": 8000,
        "n_test": 2000,
        "n_explained": Option(300, "test digits whose pixels are explained"),
    },
    options={
        "seeds": Option([0, 1, 2, 3, 4], "of the split, the weights and the draws"),
        "part": Option(None, "β-VAEs or TC-VAEs only, for parallel processes", ("beta", "TC")),
        "device": Option("cpu", "where networks are: cpu, cuda"),
    },
    smoke={
        "betas": [1.0, 5.0],
        "epochs": 1,
        "batch_size": 20,
        "n_train": 40,
        "n_test": 20,
        "n_explained": 2,
        "seeds": [0],
    },
    threads=1,
)
