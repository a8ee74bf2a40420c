"""The scripts about embeddings run, in a tiny size, and write what they should."""

from .running import run


def run_paper(script, tmp_path):
    """Run a paper's script; return its results and its section."""
    docs = tmp_path / "results.md"
    results = run(f"papers/{script}.py", tmp_path, "--docs", docs)
    page = docs.read_text()
    assert "nan" not in page
    return results, page


def test_embedding_sparsity(tmp_path):
    results, page = run_paper("embedding_sparsity", tmp_path)
    piece = results["pieces"]["mnist_resnet, seed 0"]
    assert len(piece["layers"]) == 9
    for saliency, n_pairs in {"gradient": 7, "activation_x_gradient": 7, "grad_cam": 2}.items():
        tables = piece["sparsity"][saliency]
        assert len(tables) == n_pairs
        for table in tables.values():
            assert len(table) == 2
            assert all(0 <= value <= 1 for row in table for value in row)
    claims = results["summary"]["mnist_resnet"]["claims"]["gradient"]
    assert claims["E, C = abs"]["n_pairs"] == 18
    assert claims["C and E"]["n_pairs"] == 16  # without the layer that has one channel
    assert "| C and E |" in page


def test_score_curves(tmp_path):
    results, page = run_paper("score_curves", tmp_path)
    assert len(results["pieces"]) == 3  # trained, and untrained in two ways
    for piece in results["pieces"].values():
        entries = [*piece["noise"].values(), *piece["variance"].values()]
        assert len(entries) == 4
        for entry in entries:
            assert len(entry["mean"]) == len(piece["layers"]) == 9
            assert set(entry["error_from_units"]) == {0.0}  # all units
    row = results["summary"]["noise"]["mnist_resnet"]["grad_cam"]["thirds"]["last third"]
    assert {"trained", "untrained", "untrained, calibrated", "N⁰"} == set(row)
    assert "figure 5" in page


def test_layer_randomisation(tmp_path):
    results, page = run_paper("layer_randomisation", tmp_path)
    assert set(results["pieces"]) == {"seed 0, default", "seed 0, he"}
    for name, piece in results["pieces"].items():
        rows = piece["versions"]
        assert len(rows) == 14
        for values in ([r["accuracy"] for r in rows], [r["gradient"]["mean"] for r in rows]):
            assert len(set(values)) > 1
        scores = results["spearman"][piece["draw"]]["gradient"]
        for score in scores.values():
            assert set(score) == {"accuracy", "probe", "single"}
            assert all(-1 <= v[0] <= 1 for v in score.values()), name
    assert "| `blocks.1.shortcut.0` |" in page


def test_drift(tmp_path):
    results, page = run_paper("drift", tmp_path)
    piece = results["pieces"]["seed 0"]
    assert len(piece["relative"]) == 16
    for entry in piece["relative"].values():
        assert len(entry["clipped"]) == len(entry["not clipped"]) == len(results["lambdas"])
    for rhos in results["spearman"].values():
        assert all(-1 <= rho <= 1 for rho in (*rhos["clipped"], *rhos["not clipped"]))
    assert "| Grad-CAM | sum | var |" in page
