"""InfluenceImportance beside pyDVL's approximations, 1000 samples and 1000 training examples.

Both are given the same trained autoencoder, the encoder's parameters, the mean squared error of
the reconstruction and the same damping; ours is all that a user pays for ``fit`` and ``transform``,
pyDVL's for ``fit`` and ``influences``, with batches of a good size for it. They take turns.
pyDVL needs versions of NumPy and others that do not go together with ours, so it runs in a process
of its own, in an environment that is made once by

    python3.11 -m venv pydvl-env
    pydvl-env/bin/pip install torch "pyDVL[influence]"

and is named by ``--pydvl-python pydvl-env/bin/python`` or the variable ``PYDVL_PYTHON``. Without it
only ours is timed.

Agreement is the mean over a few samples of Spearman's rank correlation with the importance by
conjugate gradients, run to a small residual on products that share no code with either side: of
the Gauss-Newton matrix, and of the Hessian where the damping makes it positive definite.
"""

import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from torch.nn.functional import mse_loss

from sklexplain import InfluenceImportance
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option
from ..common import ROOT, MnistAutoencoder, load_digits_28x28, markdown_table, rounded

TARGET = 0.2  # the time of one of ours over that of pyDVL's fastest
TOL, MAX_ITER = 1e-4, 2000  # of the reference
OURS = {
    "auto": {},
    "low_rank, rank 1000": {"solver": "low_rank", "rank": 1000},
    "low_rank, rank 100": {"solver": "low_rank", "rank": 100},
}
THEIRS = {
    "Nyström, rank 50": {"method": "nystroem", "rank": 50},
    "inverse harmonic mean": {"method": "harmonic mean"},
}
HOW_TO_INSTALL = (
    "pyDVL is not run: make an environment for it (python3.11 -m venv pydvl-env; "
    'pydvl-env/bin/pip install torch "pyDVL[influence]") and pass --pydvl-python '
    "pydvl-env/bin/python, or set PYDVL_PYTHON. Only ours is timed."
)
BATCH_SIZE = 100  # pyDVL's; with 32 it takes as long, with 1000 twice as long


class Theirs:
    """pyDVL in another process, which waits for requests.

    Parameters
    ----------
    python : str
        A Python with pyDVL.
    weights : Path
        The network's state dict.
    n_train, n_query : int
        Numbers of samples.
    """

    def __init__(self, python, weights, n_train, n_query):
        command = [python, "-W", "ignore", "-m", "benchmarks.pydvl_side", "--weights", weights]
        command += ["--n-train", str(n_train), "--n-query", str(n_query)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._out = weights.with_name("matrix.npy")
        self.versions = json.loads(self._process.stdout.readline())

    def __call__(self, **request):
        """Seconds (clock, processor) and the importance matrix."""
        self._process.stdin.write(json.dumps({**request, "out": str(self._out)}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"], np.load(self._out)

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def ours(module, train, query, damping, **params):
    """Seconds (clock, processor), the importance matrix, and the estimator."""
    start = np.array([time.perf_counter(), time.process_time()])
    influence = InfluenceImportance(module, damping=damping, random_state=0, **params).fit(train)
    matrix = influence.transform(query)
    return np.array([time.perf_counter(), time.process_time()]) - start, matrix, influence


def backward(module, x):
    """Processor time of the plain passes that nobody can do without, over all samples."""
    start = time.process_time()
    for batch in x.split(250):
        (module(batch) - batch).square().flatten(1).mean(dim=1).sum().backward()
    seconds = time.process_time() - start
    module.zero_grad()
    return seconds


# -- reference ---------------------------------------------------------------------------------


class Reference:
    """Importance by conjugate gradients, in float64, on products of its own.

    Parameters
    ----------
    module : nn.Module
        The autoencoder, in eval mode.
    train, query : torch.Tensor
        Samples.
    """

    def __init__(self, module, train, query):
        self._module = module.double()
        self._train = train.double()
        named = dict(self._module.encoder.named_parameters())
        self._shapes = {name: p.shape for name, p in named.items()}
        self._theta = torch.cat([p.detach().flatten() for p in named.values()])
        self._corpus = self._gradients(self._train)
        self._queries = self._gradients(query.double())

    def _code(self, theta, x):
        parts = theta.split([shape.numel() for shape in self._shapes.values()])
        named = zip(self._shapes.items(), parts, strict=True)
        parameters = {name: part.view(shape) for (name, shape), part in named}
        return torch.func.functional_call(self._module.encoder, parameters, (x,))

    def _loss(self, theta, x):
        return mse_loss(self._module.decoder(self._code(theta, x)), x)

    def _gradients(self, x):
        one = torch.func.grad(lambda theta, x: self._loss(theta, x[None]))
        return torch.func.vmap(one, in_dims=(None, 0), chunk_size=50)(self._theta, x).detach()

    def jacobian(self):
        """Rows of the Gauss-Newton matrix's root, (n_train * n_components, n_parameters)."""
        rows = torch.func.jacrev(lambda theta, x: self._code(theta, x[None])[0])
        jacobian = torch.func.vmap(rows, in_dims=(None, 0), chunk_size=20)
        out = torch.func.jacrev(lambda z: self._module.decoder(z[None])[0].flatten())
        after = torch.func.vmap(out, chunk_size=20)
        parts = []
        for x in self._train.split(100):
            z = self._code(self._theta, x).detach()
            D = after(z).detach()
            curvature = 2 / D.shape[1] * D.transpose(1, 2) @ D / len(self._train)
            values, vectors = torch.linalg.eigh(curvature)
            root = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
            parts.append((root.transpose(1, 2) @ jacobian(self._theta, x).detach()).flatten(0, 1))
        return torch.cat(parts)

    def hessian_products(self, vectors):
        """Products with the Hessian of the mean loss, by differentiating twice."""
        total, theta = torch.zeros_like(vectors), self._theta.clone().requires_grad_()
        for x in self._train.split(100):
            loss = len(x) / len(self._train) * self._loss(theta, x)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            for row, v in zip(total, vectors, strict=True):
                row += torch.autograd.grad(gradient, theta, v, retain_graph=True)[0]
        return total

    def importance(self, products, damping):
        """Matrix (n_query, n_train), or None if the curvature is negative; worst residual."""
        solved, residual = solve(lambda v: products(v) + damping * v, self._queries)
        if solved is None:
            return None, residual
        return (solved @ self._corpus.T / len(self._corpus)).numpy(), residual


def solve(products, b):
    """Conjugate gradients, all right-hand sides together; None at negative curvature."""
    x, r = torch.zeros_like(b), b.clone()
    direction, squared, length = r.clone(), r.square().sum(dim=1), b.norm(dim=1)
    for _ in range(MAX_ITER):
        residual = float((squared.sqrt() / length).max())
        if residual <= TOL:
            break
        through = products(direction)
        curvature = (direction * through).sum(dim=1)
        if (curvature <= 0).any():
            return None, residual
        step = (squared / curvature).unsqueeze(1)
        x, r = x + step * direction, r - step * through
        squared, before = r.square().sum(dim=1), squared
        direction = r + (squared / before).unsqueeze(1) * direction
    return x, residual


def agreement(matrix, expected):
    pairs = zip(matrix, expected, strict=False)
    return rounded(np.mean([spearmanr(ours, theirs)[0] for ours, theirs in pairs]), 4)


# -- runs --------------------------------------------------------------------------------------


def trained(n_train, epochs):
    X = load_digits_28x28()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        autoencoder = Autoencoder(
            module=MnistAutoencoder,
            n_components=4,
            max_epochs=epochs,
            validation_split=None,
            random_state=0,
        ).fit(X[:n_train])
    return autoencoder.net_.module_.eval(), X


def times(module, train, query, theirs, args):
    """Seconds in turns, by method: {"ours ...": [[wall, cpu], ...]}."""
    seconds, chosen = {}, {}
    for repeat in range(args.n_repeats):
        for name, params in OURS.items():
            wall_cpu, _, influence = ours(module, train, query, args.damping[0], **params)
            seconds.setdefault(f"ours, {name}", []).append(rounded(wall_cpu))
            chosen[f"ours, {name}"] = influence.solver_
        for name, request in THEIRS.items() if theirs else ():
            wall_cpu, _ = theirs(**request, damping=args.damping[0], batch_size=BATCH_SIZE)
            seconds.setdefault(f"pyDVL, {name}", []).append(rounded(wall_cpu))
        print(f"turn {repeat + 1} of {args.n_repeats}", seconds, flush=True)
    return {"speed": summary(seconds), "turns": seconds, "solver": chosen}


def agreements(module, train, query, theirs, args):
    """Mean rank correlations, by damping, method and reference."""
    found = {}
    n = args.n_checked
    matrices = {}
    for damping in args.damping:
        for name, params in OURS.items():
            matrix = ours(module, train, query, damping, **params)[1]
            matrices[damping, f"ours, {name}"] = matrix[:n]
        for name, request in THEIRS.items() if theirs else ():
            matrix = theirs(**request, damping=damping, batch_size=BATCH_SIZE)[1]
            matrices[damping, f"pyDVL, {name}"] = matrix[:n]
    reference = Reference(module, torch.from_numpy(train), torch.from_numpy(query[:n]))
    rows = reference.jacobian()
    for damping in args.damping:
        entry = found[str(damping)] = {}
        products = {"gauss_newton": lambda v: (v @ rows.T) @ rows}
        products["hessian"] = reference.hessian_products
        for curvature, product in products.items():
            expected, residual = reference.importance(product, damping)
            entry[curvature] = {"residual": float(f"{residual:.2g}")}
            if expected is None:
                entry[curvature]["negative_curvature"] = True
                continue
            for (its, name), matrix in matrices.items():
                if its == damping:
                    entry[curvature][name] = agreement(matrix, expected)
        print(damping, entry, flush=True)
    return found


def summary(seconds):
    """Medians, and ours over each of theirs turn by turn."""
    entries = {}
    for name, turns in seconds.items():
        wall, cpu = np.array(turns).T
        entries[name] = {
            "seconds": rounded(np.median(wall), 3),
            "cpu_seconds": rounded(np.median(cpu), 3),
            "n_repeats": len(turns),
        }
    others = {n: entry["cpu_seconds"] for n, entry in entries.items() if n.startswith("pyDVL")}
    fastest = min(others, key=others.get, default=None)
    for name, turns in seconds.items():
        if name.startswith("ours") and others:
            for key, other in (("", "pyDVL, Nyström, rank 50"), ("fastest_", fastest)):
                wall, cpu = np.median(np.array(turns) / np.array(seconds[other]), axis=0)
                entries[name] |= {
                    f"{key}ratio": rounded(wall, 3),
                    f"{key}cpu_ratio": rounded(cpu, 3),
                }
    return entries


def render(results):
    """Return the section as Markdown."""
    if not {"speed", "agreement"} <= set(results):
        return None
    machine, settings = results["environment"], results["settings"]
    columns = [
        (damping, curvature)
        for damping, entry in results["agreement"].items()
        for curvature, found in entry.items()
        if "negative_curvature" not in found
    ]
    header = ["method", "seconds", "processor time"]
    header += ["processor time over Nyström's", "over pyDVL's fastest"]
    header += [f"{c.replace('_', '-')}, damping {d}" for d, c in columns]
    rows = []
    for name, entry in results["speed"].items():
        row = [name, f"{entry['seconds']:.2f}", f"{entry['cpu_seconds']:.2f}"]
        row += [f"{entry[k]:.2f}" if k in entry else "" for k in ("cpu_ratio", "fastest_cpu_ratio")]
        row += [results["agreement"][d][c].get(name, "") for d, c in columns]
        rows.append(row)
    negative = [d for d, e in results["agreement"].items() if "negative_curvature" in e["hessian"]]
    parts = [
        "## Speed of influence functions",
        f"Importance of {settings['n_train']} training digits for {settings['n_query']} others, by "
        "influence in the encoder of the MNIST autoencoder (43,428 parameters), trained on the "
        f"former for {settings['epochs']} epochs. Seconds of fit and matrix, medians of turns; "
        "pyDVL runs in a process of its own, with batches of 100. Made by "
        f"`benchmarks/speed/influence.py`. {machine['torch_threads']} thread(s) of "
        f"{machine['n_cores']} cores, {machine['processor']}, torch {machine['torch']}"
        + (f", pyDVL {results['pydvl']['pydvl']}" if results["pydvl"] else "; pyDVL not run")
        + ". The machine was shared, so processor time is given too. `auto` chose "
        f"`{results['solver']['ours, auto']}`; a plain forward and backward pass over the "
        f"{settings['n_train'] + settings['n_query']} samples takes "
        f"{results['backward_cpu_seconds']:.2f} s of processor time. Aim: {TARGET} of the time of "
        "pyDVL's fastest, at an agreement that is higher.",
        markdown_table(header, rows),
        f"The last columns are the mean over {settings['n_checked']} samples of Spearman's rank "
        "correlation, over the training digits, with the importance by conjugate gradients (to a "
        f"relative residual of {TOL:g}) in float64. Ours is of the "
        "Gauss–Newton matrix, pyDVL's of the Hessian"
        + (
            f"; with damping {', '.join(negative)} the Hessian of this network still has negative "
            "eigenvalues, so that conjugate gradients do not apply to it."
            if negative
            else "."
        ),
    ]
    return "\n\n".join(parts)


def measure(args, results, save):
    module, X = trained(args.n_train, args.epochs)
    train, query = X[: args.n_train], X[args.n_train : args.n_train + args.n_query]
    with tempfile.TemporaryDirectory() as folder:
        theirs = None
        if args.pydvl_python:
            weights = Path(folder) / "weights.pt"
            torch.save(module.state_dict(), weights)
            theirs = Theirs(args.pydvl_python, weights, args.n_train, args.n_query)
        else:
            print(HOW_TO_INSTALL)
        results |= {"pydvl": theirs.versions if theirs else None, "target": TARGET}
        if args.only != "agreement":
            both = torch.from_numpy(np.concatenate([train, query]))
            results["backward_cpu_seconds"] = rounded(min(backward(module, both) for _ in range(3)))
            results |= times(module, train, query, theirs, args)
        if args.only != "speed":
            results["agreement"] = agreements(module, train, query, theirs, args)
        if theirs:
            theirs.close()


BENCHMARK = Benchmark(
    section="speed of influence functions",
    page="speed.md",
    measure=measure,
    render=render,
    settings={
        "n_train": 1000,
        "n_query": 1000,
        "n_checked": 5,
        "n_repeats": 3,
        "epochs": 60,
        "damping": [1e-3, 0.1],
    },
    options={
        "pydvl_python": Option(os.environ.get("PYDVL_PYTHON"), "a Python that has pyDVL"),
        "only": Option(None, "keep the rest of the results", choices=("speed", "agreement")),
    },
    fixed={"tol": TOL},
    smoke={
        "n_train": 20,
        "n_query": 6,
        "n_checked": 2,
        "n_repeats": 1,
        "epochs": 1,
        "damping": [1.0],
        "pydvl_python": None,
    },
    threads=1,  # as pyDVL's process
)
