"""Tables II, III and IV of the ClaDec paper, on digits with its architecture, and heartbeats.

Schneider & Vlachos (2020) explain layers of a convolutional classifier (Table II), trade the
likeness of reconstructions for their fidelity (Table III), and vary how long the classifier was
trained (Table IV). Theirs is Fashion-MNIST with 60 000 images and 64 epochs for every network; here
it is MNIST, for which they say that the findings were the same, with 2 500 images and fewer epochs
for all networks but the classifier that is explained. So each trained decoder has two others beside
it that have no training to be too short: a ridge regression and a kernel ridge regression from the
same activations. The one case with series is ECG5000 with a small convolutional classifier.

``--max-seconds`` ends a call early; the next one goes on.
"""

import copy
import itertools
import time
from types import SimpleNamespace

import numpy as np
import torch
from scipy import stats
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import euclidean_distances
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.datasets import load_ecg5000
from sklexplain.decoding._ridge import fit_ridge
from sklexplain.metrics import evaluation_accuracy, interpretability

from .._runner import Benchmark, Option
from ..common import load_digits_28x28, markdown_table, rounded

LAYERS = {"-4": "block2", "-3": "block3", "-2": "block4", "-1": "fc"}
CLASS_WEIGHTS = (0.9, 0.99, 0.999, 1.0)
NORMED = "0 epochs, normed"
WITHOUT_TRAINING = ("accuracy_explained", "loss_ridge", "loss_kernel_ridge")
EPOCHS = (0, 1, 4, 16)  # of the classifier, beside those of the other tables
# Of kernel ridge regression: penalties, and widths as multiples of the median squared distance.
KERNEL_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
KERNEL_WIDTHS = (1.0, 4.0)
# Losses of ClaDec and RefAE, accuracies of what learns from their reconstructions.
PAPER = {
    "-4": (3.61, 2.62, 0.893, 0.893),
    "-3": (3.63, 2.64, 0.893, 0.892),
    "-2": (6.08, 3.34, 0.895, 0.889),
    "-1": (28.07, 7.28, 0.904, 0.845),
    "weight 0.9": (6.81, None, 0.909, None),
    "weight 0.99": (10.21, None, 0.913, None),
    "weight 0.999": (18.79, None, 0.913, None),
    "weight 1": (234.77, None, 0.911, None),
    "0 epochs": (5.45, 3.33, 0.85, 0.886),
    "1 epochs": (6.42, 3.3, 0.88, 0.888),
    "4 epochs": (6.61, 3.3, 0.893, 0.893),
    "16 epochs": (6.23, 3.33, 0.896, 0.891),
}


class Classifier(nn.Sequential):
    """Table I: five strided convolutions and a linear layer."""

    def __init__(self):
        super().__init__()
        channels = (1, 16, 32, 64, 128, 256)
        for i, (n_in, n_out) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
            conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
            self.add_module(f"block{i}", nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU()))
        self.add_module("flatten", nn.Flatten())
        self.add_module("fc", nn.Linear(256, 10))


class Centred(nn.Module):
    """Activations without their mean, of order 1: by the first batch that is trained on.

    Those of an untrained classifier vary by a hundredth of their mean, and training would see the
    mean only.
    """

    def __init__(self, z_shape):
        super().__init__()
        self.register_buffer("center", torch.zeros(z_shape))
        self.register_buffer("scale", torch.zeros(()))

    def forward(self, z):
        if self.training and self.scale == 0:
            with torch.no_grad():
                self.center.copy_(z.mean(dim=0))
                self.scale.copy_((z - self.center).square().mean().sqrt().clamp(min=1e-12))
        return (z - self.center) / torch.where(self.scale > 0, self.scale, 1.0)


class Decoder(nn.Sequential):
    """Table I: transposed convolutions, the coarsest left out for lower layers."""

    def __init__(self, z_shape, x_shape):
        super().__init__(Centred(z_shape))
        if len(z_shape) == 1:
            self.append(nn.Linear(z_shape[0], z_shape[0]))
            self.append(nn.Unflatten(1, (*z_shape, 1, 1)))
        size = 1 if len(z_shape) == 1 else z_shape[1]
        widths = (256, 128, 64, 32, x_shape[0])[int(np.log2(size)) :]
        n_in = z_shape[0]
        for i, n_out in enumerate(widths):
            self.append(nn.ConvTranspose2d(n_in, n_out, 5, 2, 2, output_padding=1))
            if i < len(widths) - 1:
                self.append(nn.ReLU())
            n_in = n_out


class HeartbeatClassifier(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Unflatten(1, (1, 140)),
            *(nn.Conv1d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv1d(8, 16, 5, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 2)),
        )


def classifier(module, n_epochs, device):
    """An unfitted skorch net."""
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=n_epochs,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        device=device,
        verbose=0,
    )


def with_batch_statistics(net, X):
    """Copy a net and give its batch normalisation the statistics of X; weights stay as they are."""
    net = copy.deepcopy(net)
    for module in net.module_.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over batches
    net.module_.train()
    with torch.no_grad():
        for batch in torch.from_numpy(X).split(256):
            net.module_(batch.to(net.device))
    net.module_.eval()
    return net


def kernel_ridge_errors(z, x, z_test, x_test):
    """Squared errors of a kernel ridge regression, its width and penalty chosen on held-out rows.

    Activations are centred and divided by one number; a quarter of the rows is held out to choose,
    then all are fitted.
    """
    z, x, z_test, x_test = (a.reshape(len(a), -1) for a in (z, x, z_test, x_test))
    mean = z.mean(axis=0)
    scale = np.sqrt(np.square(z - mean).mean()) or 1.0
    z, z_test = (z - mean) / scale, (z_test - mean) / scale
    x_mean = x.mean(axis=0)
    apart = euclidean_distances(z[:500], squared=True)
    width = np.median(apart[np.triu_indices_from(apart, 1)])
    n_fitted = len(z) - len(z) // 4

    def errors(gamma, penalty, n, others, targets):
        model = KernelRidge(alpha=penalty, kernel="rbf", gamma=gamma).fit(z[:n], x[:n] - x_mean)
        return np.square(model.predict(others) + x_mean - targets).sum(axis=1)

    candidates = list(itertools.product([1 / (w * width) for w in KERNEL_WIDTHS], KERNEL_PENALTIES))
    held_out = [errors(*c, n_fitted, z[n_fitted:], x[n_fitted:]).mean() for c in candidates]
    return errors(*candidates[int(np.argmin(held_out))], len(z), z_test, x_test)


def activations(module, layer, X):
    """What a layer makes of samples; the last linear layer's input where none is named."""
    found, device = [], next(module.parameters()).device
    name = layer or [n for n, m in module.named_modules() if isinstance(m, nn.Linear)][-1]

    def keep(_module, args, output):
        found.append((output if layer else args[0]).double().cpu().numpy())

    handle = module.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        for x in torch.from_numpy(X).split(256):
            module.eval()(x.to(device))
    handle.remove()
    return np.concatenate(found)


class Run:
    """One run: its own part of the data, its own classifiers."""

    def __init__(self, args, seed):
        self.args, self.seed = args, seed
        self._nets, self._learners = {}, {}
        self._data = {}

    def data(self, case):
        if case not in self._data:
            if case == "digits":
                X, y = load_digits_28x28()
                X = np.pad(X, [(0, 0), (0, 0), (2, 2), (2, 2)])
            else:
                X, y = load_ecg5000(return_X_y=True)
                X, y = np.asarray(X, np.float32), (np.asarray(y) != 1).astype(np.int64)
            order = np.random.RandomState(self.seed).permutation(len(X))
            n_train = min(self.args.n_train, len(X) - self.args.n_test)
            train, test = order[:n_train], order[n_train : n_train + self.args.n_test]
            self._data[case] = X[train], y[train], X[test], y[test]
        return self._data[case]

    def net(self, case, n_epochs):
        """The explained classifier, trained on from one number of epochs to the next."""
        X, y, X_test, y_test = self.data(case)
        known = self._nets.setdefault(case, {})
        with torch.random.fork_rng(devices=[]):
            if case in self._learners:
                net, state = self._learners[case]
                torch.set_rng_state(state)
            else:
                torch.manual_seed(self.seed)
                module = Classifier if case == "digits" else HeartbeatClassifier
                net = classifier(module, 0, self.args.device)
                net.initialize()
            for n in sorted({*self.args.epochs, self.args.classifier_epochs} - {*known}):
                if n <= n_epochs:
                    net.set_params(max_epochs=n - len(net.history))
                    net.partial_fit(X, y)
                    done = copy.deepcopy(net)
                    if n == 0:  # as drawn; skorch counts it as fitted by its history
                        done.history.new_epoch()
                    known[n] = done, float((done.predict(X_test) == y_test).mean())
            self._learners[case] = net, torch.get_rng_state()
        return known[n_epochs]

    def explained(self, case, n_epochs=None, normed=False):
        """Return the classifier of a row and its accuracy."""
        X, _, X_test, y_test = self.data(case)
        n_epochs = self.args.classifier_epochs if n_epochs is None else n_epochs
        net, accuracy = self.net(case, n_epochs)
        if normed:
            net = with_batch_statistics(net, X)
            accuracy = float((net.predict(X_test) == y_test).mean())
        return net, accuracy

    def without_training(self, case, layer, *, n_epochs=None, normed=False, **_):
        """Losses of the decoders in closed form."""
        X, _, X_test, _ = self.data(case)
        net, accuracy = self.explained(case, n_epochs, normed)
        fitted, tested = (activations(net.module_, layer, x) for x in (X, X_test))
        X, X_test = X.astype(np.float64), X_test.astype(np.float64)
        linear = fit_ridge(fitted, X).errors(tested, X_test)
        return {
            "accuracy_explained": rounded(accuracy),
            "loss_ridge": rounded(linear.mean()),
            "loss_kernel_ridge": rounded(kernel_ridge_errors(fitted, X, tested, X_test).mean()),
        }

    def piece(self, case, layer, *, alpha=1.0, reference=None, n_epochs=None, normed=False):
        """Fit an explainer and judge it."""
        args = self.args
        X, y, X_test, y_test = self.data(case)
        net, accuracy = self.explained(case, n_epochs, normed)
        explainer = ClaDecExplainer(
            net,
            layer=layer,
            decoder=Decoder if case == "digits" else None,
            alpha=alpha,
            loss="cross_entropy" if case == "digits" else "squared_error",
            reference=reference,
            validation_split=None,
            max_epochs=args.n_epochs,
            device=args.device,
            random_state=self.seed,
        ).fit(X)
        evaluated = evaluation_accuracy(
            explainer,
            *(X, y, X_test, y_test),
            classifier=classifier(type(net.module_), args.n_epochs, args.device),
            random_state=self.seed,
        )
        close = interpretability(explainer, X_test)
        found = {
            "accuracy_explained": rounded(accuracy),
            "loss": rounded(close.explanation),
            "accuracy": rounded(evaluated.explanation),
            "agreement": rounded(explainer.agreement(X_test)),
            "wrong": np.flatnonzero(~evaluated.correct_explanation).tolist(),
        }
        if reference is not None:
            found |= {
                "loss_reference": rounded(close.reference),
                "accuracy_reference": rounded(evaluated.reference),
                "wrong_reference": np.flatnonzero(~evaluated.correct_reference).tolist(),
            }
        return found


def pieces(args):
    """Return name, case, layer and options of all that is computed, what matters most first.

    References know nothing of the classifier and of alpha: one serves all rows of a layer.
    """
    own = {"reference": "autoencoder"}
    layers = {name: (name, "digits", layer, own) for name, layer in LAYERS.items()}
    weights = [
        (f"weight {weight:g}", "digits", "block4", {"alpha": 1 - weight})
        for weight in CLASS_WEIGHTS
    ]
    epochs = [(f"{n} epochs", "digits", "block4", {"n_epochs": n}) for n in args.epochs]
    epochs.append((NORMED, "digits", "block4", {"n_epochs": 0, "normed": True}))
    heartbeats = [
        ("heartbeats", "heartbeats", None, own),
        ("heartbeats, convolutions", "heartbeats", "4", own),
    ]
    return [layers["-2"], *epochs, layers["-1"], *heartbeats, *weights, layers["-3"], layers["-4"]]


def measure(args, results, save):
    """Compute what is missing, each piece in every run, until time is up."""
    start = time.perf_counter()
    runs = [Run(args, seed) for seed in args.runs]
    # First what takes no training of decoders: it is quick, and has no budget to be too small.
    for kind in ("without training", "runs"):
        for (name, case, layer, options), run in itertools.product(pieces(args), runs):
            done = results.setdefault(kind, {}).setdefault(str(run.seed), {})
            closed = kind != "runs"
            if name in done or (args.pieces and name not in args.pieces):
                continue
            if closed and "alpha" in options:  # the same as that of the layer
                continue
            if time.perf_counter() - start > args.max_seconds:
                return
            begin = time.process_time()
            make = run.without_training if closed else run.piece
            done[name] = make(case, layer, **options)
            done[name]["cpu_seconds"] = rounded(time.process_time() - begin, 1)
            save()
            print(run.seed, name, done[name], flush=True)


def summary(results, name, key):
    """Mean and standard deviation over the runs that have a piece; None without any."""
    kind = "without training" if key in WITHOUT_TRAINING else "runs"
    name = "-2" if name.startswith("weight") and kind != "runs" else name
    found = results.get(kind, {}).values()
    values = [run[name].get(key) for run in found if name in run]
    values = [value for value in values if value is not None]
    if not values:
        return None
    return np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0, len(values)


def cell(found, digits):
    if found is None:
        return "–"
    mean, deviation, n = found
    return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if n > 1 else "")


def differences(results, name, reference):
    """Accuracy by ClaDec minus that by RefAE: of every run, with its 95 % interval.

    The same test images are judged by both, so the interval is that of a paired difference.
    """
    n, out = results["settings"]["n_test"], []
    for run in results["runs"].values():
        if name not in run or reference not in run:
            continue
        wrong, other = set(run[name]["wrong"]), set(run[reference]["wrong_reference"])
        gained, lost = len(other - wrong), len(wrong - other)
        difference = (gained - lost) / n
        half = 1.96 * np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
        out.append((difference, half))
    return out


def mean_difference(found):
    """Mean over runs with a t interval, which counts how much runs differ."""
    values = np.array([difference for difference, _ in found])
    if len(values) < 2:
        return "–"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} ± {half:.3f}"


def table(results, names, first, reference=None):
    """Rows of pieces: losses and accuracies of ours, and those of the paper.

    The rows' references are their own, or that of the row that is named.
    """
    header = [first, "runs: ridges, ClaDec", "accuracy of the explained", "loss, ClaDec"]
    header += ["loss, ridge", "loss, kernel ridge", "loss, RefAE"]
    header += ["accuracy, ClaDec", "accuracy, RefAE", "difference", "of each run"]
    header += ["classified alike", "paper: losses; accuracies"]
    whole = {"weight": "weight 0", "epochs": "all epochs"}  # what else is layer -2
    rows = []
    for name in names:
        loss, closed = summary(results, name, "loss"), summary(results, name, "loss_ridge")
        if loss is None and closed is None:
            continue
        beside = reference or name
        found = differences(results, name, beside)
        label = whole.get(first) if name == "-2" else None
        ours = PAPER.get(name)
        values = ["–" if value is None else f"{value:g}" for value in ours or ()]
        rows.append(
            [
                label or name,
                ", ".join(str(found[2] if found else 0) for found in (closed, loss)),
                cell(summary(results, name, "accuracy_explained"), 3),
                cell(loss, 2),
                cell(summary(results, name, "loss_ridge"), 2),
                cell(summary(results, name, "loss_kernel_ridge"), 2),
                cell(summary(results, beside, "loss_reference"), 2),
                cell(summary(results, name, "accuracy"), 3),
                cell(summary(results, beside, "accuracy_reference"), 3),
                mean_difference(found),
                ", ".join(f"{difference:+.3f} ± {half:.3f}" for difference, half in found) or "–",
                cell(summary(results, name, "agreement"), 3),
                f"{values[0]}, {values[1]}; {values[2]}, {values[3]}" if values else "–",
            ]
        )
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    weights = ["-2", *(f"weight {weight:g}" for weight in CLASS_WEIGHTS)]
    epochs = [NORMED, *(f"{n} epochs" for n in settings["epochs"]), "-2"]
    text = [
        "## ClaDec: layers, fidelity and training (Tables II, III, IV)",
        f"MNIST, padded to 32 × 32, {settings['n_train']} images to train and "
        f"{settings['n_test']} to test; {settings['classifier_epochs']} epochs for the classifier "
        f"that is explained (where nothing else is said) and {settings['n_epochs']} for every "
        "other network, cross-entropy as reconstruction loss; architecture of the paper's Table I. "
        "The paper's numbers are of Fashion-MNIST with 60 000 images and 64 epochs: what can be "
        "compared is the order within a row or column, not its height. Losses are squared errors "
        "summed over an image's pixels; accuracies are those of fresh classifiers that learn from "
        "reconstructions and are tested on reconstructed test images; *ridge* is a linear "
        "regression from the same activations to the images, in closed form, *kernel ridge* one "
        "with a Gaussian kernel: where they rebuild more, a loss is the trained decoder's and not "
        "the layer's; ± is the standard deviation "
        "over runs, each with images, classifier and weights of its own. Differences are the "
        "accuracy by ClaDec minus that by RefAE, with 95 % intervals: over runs by Student's t, of "
        "each run by its test images. RefAE does not depend on weight or epochs, so one serves all "
        f"rows of a layer. Made by `benchmarks/papers/cladec_tables.py`; {machine['processor']}, "
        f"torch {machine['torch']}.",
    ]
    tables = [
        ("Layers (-1 is the linear layer's output, -2 the last convolution's):", "layer", LAYERS),
        ("Weight of the classification loss, 1 - `alpha`, at layer -2:", "weight", weights),
        (
            "Epochs that the explained classifier was trained, at layer -2 (*normed*: not trained, "
            "but its batch normalisation has the statistics of the images; without them "
            "activations are about a hundredth in size):",
            "epochs",
            epochs,
        ),
        (
            "ECG5000, normal or not, at the last linear layer's input (16 units) of a small "
            "convolutional classifier and at its last convolution (squared error, losses per beat "
            "of 140 steps):",
            "series",
            ["heartbeats", "heartbeats, convolutions"],
        ),
    ]
    found = (results.get(kind, {}) for kind in ("without training", "runs"))
    computed = {name for runs in found for run in runs.values() for name in run}
    for title, first, names in tables:
        # Layer -2 alone, as it is in three of them, makes a table of layers only.
        if computed & (set(names) if first == "layer" else set(names) - {"-2"}):
            shared = "-2" if first in ("weight", "epochs") else None
            text += [title, table(results, names, first, shared)]
    trained = {name for run in results.get("runs", {}).values() for name in run}
    missing = [n for n, *_ in pieces(SimpleNamespace(**settings)) if n not in trained]
    if missing:
        text.append(f"No decoders were trained yet for: {', '.join(missing)}.")
    return "\n\n".join(text)


BENCHMARK = Benchmark(
    section="ClaDec tables",
    page="cladec.md",
    measure=measure,
    render=render,
    settings={
        "n_train": 2500,
        "n_test": 1000,
        "n_epochs": 12,
        "classifier_epochs": 64,
        "epochs": list(EPOCHS),
    },
    options={
        "runs": [0, 1],
        "device": "cpu",
        "pieces": Option([], "names of rows; none: all"),
        "max_seconds": Option(np.inf, "end early", type=float),
    },
    smoke={
        "n_train": 40,
        "n_test": 30,
        "n_epochs": 1,
        "classifier_epochs": 2,
        "epochs": [0, 1],
        "runs": [0],
    },
)
