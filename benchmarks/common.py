"""What several benchmarks share: the paper's MNIST network, the digits, settings and files."""

import json
import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "benchmarks" / "data" / "mnist10k.npz"


class MnistAutoencoder(nn.Module):
    """The convolutional autoencoder of Crabbé & van der Schaar (2022), Table 5.

    Parameters
    ----------
    n_components : int, default=4
        Length of the code.
    """

    def __init__(self, n_components=4):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(288, 128),
            nn.ReLU(),
            nn.Linear(128, n_components),
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_components, 128),
            nn.ReLU(),
            nn.Linear(128, 288),
            nn.ReLU(),
            nn.Unflatten(1, (32, 3, 3)),
            nn.ConvTranspose2d(32, 16, 3, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )


class ConstraintAutoencoder(nn.Module):
    """The autoencoder that Bertolini et al. train with score constraints (section 4.5, B.2).

    Parameters
    ----------
    n_components : int, default=10
        Length of the code.
    pooling : bool, default=True
        Whether each convolution's activations are pooled, 2 x 2; the paper does not say.
    hidden : int or None, default=None
        Width of another linear layer before the code, with softplus; not in the paper.
    """

    def __init__(self, n_components=10, pooling=True, hidden=None):
        super().__init__()
        pool = [nn.MaxPool2d(2)] if pooling else []
        side = 7 if pooling else 28
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.Softplus(), *pool),
            *(nn.Conv2d(8, 4, 5, padding=2), nn.BatchNorm2d(4), nn.Softplus(), *pool),
            nn.Flatten(),
            *([nn.Linear(4 * side**2, hidden), nn.Softplus()] if hidden else []),
            nn.Linear(hidden or 4 * side**2, n_components),
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_components, 32),
            nn.ReLU(),
            nn.Linear(32, 784),
            nn.Unflatten(1, (1, 28, 28)),
        )


def load_digits_28x28():
    """Load 10,000 MNIST digits.

    Returns
    -------
    X : ndarray of shape (10000, 1, 28, 28), float32
        Between 0 (background) and 1 (ink).
    y : ndarray of shape (10000,), int64
    """
    with np.load(DIGITS) as archive:
        return archive["X"][:, None].astype(np.float32) / 255, archive["y"].astype(np.int64)


def environment():
    """Versions and machine, for the results file."""
    names = ("numpy", "scikit-learn", "torch", "skorch", "captum")
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "processor": _processor(),
        "n_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def interleaved(functions, n_repeats):
    """Time functions in turns, after one call of each that is not counted.

    Parameters
    ----------
    functions : list of callable
        Called without arguments.
    n_repeats : int
        Number of turns.

    Returns
    -------
    wall, cpu : ndarray of shape (n_functions, n_repeats)
        Seconds by the clock, and of this process's processor time: the second does not count the
        waiting where a machine is shared.
    """
    for function in functions:
        function()
    seconds = np.zeros((2, len(functions), n_repeats))
    for j in range(n_repeats):
        for i, function in enumerate(functions):
            start = np.array([time.perf_counter(), time.process_time()])
            function()
            seconds[:, i, j] = [time.perf_counter(), time.process_time()] - start
    return seconds


def side_by_side(ours, theirs, n_repeats):
    """Medians of ours and theirs, and the ratio turn by turn, by the clock and processor time."""
    wall, cpu = interleaved([ours, theirs], n_repeats)
    return {
        "ours_seconds": rounded(np.median(wall[0])),
        "theirs_seconds": rounded(np.median(wall[1])),
        "ratio": rounded(np.median(wall[0] / wall[1]), 3),
        "ratio_quartiles": rounded(np.percentile(wall[0] / wall[1], [25, 75]), 3),
        "cpu_ratio": rounded(np.median(cpu[0] / cpu[1]), 3),
        "ours_cpu_seconds": rounded(cpu[0].min()),
        "theirs_cpu_seconds": rounded(cpu[1].min()),
        "n_repeats": n_repeats,
    }


def write_json(path, results):
    """Write results in one go, so that a reader never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", _one_line, json.dumps(results, indent=1))
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n")
    temporary.replace(path)


def _one_line(match):
    return "[" + re.sub(r",\s+", ", ", match[1]) + "]"


def rounded(values, digits=5):
    """Round a number, or every number of an array, for the results file."""
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()


def write_section(path, name, text):
    """Replace what is between a section's markers in a Markdown file, or append the section.

    What was written by hand between the markers ``<!-- NAME: found -->`` and ``<!-- NAME: details
    -->``, under the section's title, stays there.
    """
    path = Path(path)
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    page = path.read_text() if path.exists() else ""
    before, after = f"{page.rstrip()}\n\n".lstrip(), "\n"
    text = text.strip()
    if start in page:
        before, rest = page.split(start, 1)
        section, after = rest.split(end, 1)
        text = _with_conclusions(name, section, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")


def _with_conclusions(name, section, text):
    """Put what a section says by hand under the title of its new text."""
    found, details = f"<!-- {name}: found -->", f"<!-- {name}: details -->"
    if found not in section:
        return text
    words = section.split(found, 1)[1].split(details, 1)[0].strip()
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\n{found}\n\n{words}\n\n{details}\n\n{rest}"


def without_conclusions(name, section):
    """Return a section's text as it was rendered, from what is between its markers."""
    found, details = f"<!-- {name}: found -->\n\n", f"<!-- {name}: details -->\n\n"
    if found in section:
        section = section.split(found, 1)[0] + section.split(details, 1)[1]
    return section.strip()


def markdown_table(header, rows):
    """Return a Markdown table, first column left, the others right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def gradient_shap(
    encoder, X, seed, *, n_samples=5, batch_size=300, aligned=True, baseline=0.0, center=False
):
    """Label-free gradient SHAP, rows drawn as captum draws them.

    Every sample has draws of its own, the rows of a batch being x1, x1, …, x2, x2, …

    Parameters
    ----------
    encoder : nn.Module
    X : ndarray of shape (n, ...)
    seed : int
    n_samples : int
        Draws a sample; 5 is captum's default.
    batch_size : int
        300 is that of the paper's released code.
    aligned : bool
        False repeats the error of the paper's released code: f(x) is tiled x1, x2, …, x1, x2, …,
        so that most rows explain the representation of another sample.
    baseline : float or ndarray of a sample's shape
        What is absent; black by default.
    center : bool
        Explain f(x) minus the representation of the baseline.

    Returns
    -------
    maps : ndarray of the shape of X
    """
    rng = np.random.RandomState(seed)
    absent = torch.from_numpy(np.broadcast_to(np.float32(baseline), X[:1].shape).copy())
    maps = []
    for start in range(0, len(X), batch_size):
        x = torch.from_numpy(X[start : start + batch_size])
        n_rows = (len(x) * n_samples, *[1] * (x.ndim - 1))
        shares = torch.from_numpy(rng.random_sample(n_rows).astype(np.float32))
        difference = x.repeat_interleave(n_samples, dim=0) - absent
        rows = (absent + difference * shares).requires_grad_()
        with torch.no_grad():
            z = encoder(x) - (encoder(absent) if center else 0.0)
        z = z.repeat_interleave(n_samples, dim=0) if aligned else misaligned_tiles(z, n_samples)
        (gradient,) = torch.autograd.grad((encoder(rows) * z).sum(), rows)
        maps.append(((x - absent) * gradient.unflatten(0, (len(x), n_samples)).mean(dim=1)).numpy())
    return np.concatenate(maps)


def misaligned_tiles(z, n_samples):
    """Tile representations z1, z2, …, z1, z2, …: wrong beside inputs x1, x1, …, x2, x2, …"""
    return z.repeat(n_samples, 1)
