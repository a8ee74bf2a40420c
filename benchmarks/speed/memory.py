"""Memory of `transform` on a million samples, beside what it returns.

Every explainer runs in a process of its own, on float64 samples that a float32 network takes. What
is reported is by how much the most memory that the process ever held (``VmHWM``) rose above what it
held before the call, less the size of the result. Linux only.
"""

import json
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklexplain import (
    AnomalyAttributor,
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    LatentSurrogate,
    NoiseScorer,
    RelevanceMasker,
    SimplExImportance,
    SRAEExplainer,
    TracInImportance,
    VarianceScorer,
)

from .._runner import Benchmark, Option, complete
from ..common import ROOT, markdown_table, rounded

N_FEATURES = 20
MOST_MB = 60  # the aim


class SmallAutoencoder(nn.Module):
    """Twenty features, a hidden layer of eight units, a code of four."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.ReLU(), nn.Linear(8, 4))
        self.decoder = nn.Linear(4, N_FEATURES)

    def forward(self, x):
        """Rebuild samples."""
        return self.decoder(self.encoder(x))


def rebuilt(output, x):
    """Loss of a sample."""
    return (output - x).square().mean(dim=1)


N_TRAIN, N_CORPUS = 300, 20  # a corpus has a column for each example
MAKE = {
    "LabelFreeAttributor, saliency": lambda m: LabelFreeAttributor(m.encoder, method="saliency"),
    "EmbeddingAttributor": lambda m: EmbeddingAttributor(m.encoder),
    "NoiseScorer": lambda m: NoiseScorer(m.encoder, random_state=0),
    "VarianceScorer": lambda m: VarianceScorer(m.encoder),
    "SRAEExplainer": lambda m: SRAEExplainer(m.encoder, layer="1", max_epochs=2, random_state=0),
    "ClaDecExplainer": lambda m: ClaDecExplainer(
        m.encoder, reference=None, max_epochs=2, random_state=0
    ),
    "AnomalyAttributor, saliency": lambda m: AnomalyAttributor(
        m, method="saliency", random_state=0
    ),
    "DKNNImportance, n_neighbors=5": lambda m: DKNNImportance(m.encoder, n_neighbors=5),
    "LatentSurrogate": lambda m: LatentSurrogate(m.encoder, random_state=0),
    "LatentSurrogate, linear": lambda m: LatentSurrogate(m.encoder, model="linear", random_state=0),
    "RelevanceMasker, n_masks=20": lambda m: RelevanceMasker(m.encoder, n_masks=20, random_state=0),
    "SimplExImportance": lambda m: SimplExImportance(m.encoder),
    "InfluenceImportance": lambda m: InfluenceImportance(m, loss=rebuilt, damping=0.1),
    "TracInImportance": lambda m: TracInImportance(m, loss=rebuilt),
}

CORPORA = ("SimplExImportance", "InfluenceImportance", "TracInImportance")


def worker(name, n):
    """Measure one explainer in this process, and print what was found."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore", ConvergenceWarning)
    rng = np.random.default_rng(0)
    train = rng.normal(size=(N_TRAIN, N_FEATURES))
    fitted = train[:N_CORPUS] if name in CORPORA else train
    explainer = MAKE[name](SmallAutoencoder()).fit(fitted)
    explainer.transform(np.tile(train, (10, 1)))  # imports, and what is kept of the first call
    X = rng.normal(size=(n, N_FEATURES))
    before, start = _status("VmRSS"), time.process_time()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the highest mark
    out = explainer.transform(X)
    seconds, rise = time.process_time() - start, _status("VmHWM") - before
    arrays = [out] if isinstance(out, np.ndarray) else [out.data, out.indices, out.indptr]
    size = sum(array.nbytes for array in arrays) / 2**20
    found = {"output_mb": size, "rise_mb": rise - size, "cpu_seconds": seconds}
    print(json.dumps({key: rounded(value, 1) for key, value in found.items()}))


def _status(key):
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1024


def one(name, n):
    code = f"from benchmarks.speed.memory import worker; worker({name!r}, {n})"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def measure(args, results, save):
    tasks = {name: lambda name=name: one(name, args.n_samples) for name in args.explainers}
    complete(results.setdefault("memory", {}), tasks, save)


def render(results):
    """Return the section as Markdown."""
    settings = results["settings"]
    header = ["explainer", "result, MB", "beside it, MB", "processor time, s"]
    rows = [
        [name, entry["output_mb"], entry["rise_mb"], entry["cpu_seconds"]]
        for name, entry in results["memory"].items()
    ]
    megabytes = settings["n_samples"] * settings["n_features"] * 8 / 2**20
    return "\n\n".join(
        [
            "## Memory",
            f"`transform` of {settings['n_samples']:,} samples × {settings['n_features']} features "
            f"in float64 ({megabytes:.0f} MB, not counted) by a small float32 network: the result, "
            "and how far the most memory that the process held rose beside it; at most "
            f"{settings['most_mb']} MB is wanted. Each in a process of its own, one thread. Made "
            "by `benchmarks/speed/memory.py`. Explainers by examples were fitted on "
            f"{settings['n_corpus']} of them, for each of which the result has a column.",
            markdown_table(header, rows),
        ]
    )


BENCHMARK = Benchmark(
    section="memory",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_samples": 1_000_000},
    options={"explainers": Option(list(MAKE), choices=MAKE)},
    fixed={"n_features": N_FEATURES, "most_mb": MOST_MB, "n_corpus": N_CORPUS},
    smoke={"n_samples": 2000, "explainers": ["LabelFreeAttributor, saliency"]},
)
