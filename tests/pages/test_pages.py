"""Reports as browsers show them; run by ``make test-pages``, which installs what is needed."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain.datasets import make_motif_series
from sklexplain.report import RepresentationReport

HERE = Path(__file__).parent
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif("SKLEXPLAIN_PAGES" not in os.environ, reason="run make test-pages"),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js"),
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium"),
    pytest.mark.skipif(not (HERE / "node_modules").is_dir(), reason="run make test-pages"),
    pytest.mark.filterwarnings("ignore"),
]


def reports():
    wine = load_wine(as_frame=True)
    names = {0: "barolo", 1: "grignolino", 2: "barbera"}
    forest = RandomForestClassifier(10, random_state=0)
    yield "forest", RepresentationReport(forest, target_names=names), (wine.data, wine.target)
    network = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=50, random_state=0))
    yield "network", RepresentationReport(network, notes=["A note."]), (wine.data, wine.target)
    X, y, _ = make_motif_series(n_samples=60, random_state=0)
    X = X.reshape(60, 1, -1)
    X = np.concatenate([X, X[:, :, ::-1]], axis=1).reshape(60, -1)
    names = [f"{8 * i} ms" for i in range(X.shape[1])]
    series = RepresentationReport(PCA(3), kind="series", time_names=names, value_name="mV")
    yield "series", series, (X, y)
    yield "images", RepresentationReport(PCA(3)), (X[:, :60], None)


def test_pages(tmp_path):
    pages = []
    for name, report, (X, y) in reports():
        report.set_params(random_state=0, n_examples=3, n_explained=30, title=name)
        pages.append(report.fit(X, y).to_html(tmp_path / f"{name}.html"))
    command = ["node", HERE / "check.mjs", BROWSER, tmp_path, *pages]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=HERE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("*.png"))) == 6 * len(pages)
