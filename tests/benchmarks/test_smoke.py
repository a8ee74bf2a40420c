"""The benchmark scripts run, in a tiny size, and write what they should."""

import numpy as np
import pytest

from .running import run

METHODS = 13


@pytest.fixture(scope="module")
def consistency(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("consistency")
    docs = tmp_path / "results.md"
    docs.write_text("# Results\n")
    results = run("papers/label_free_consistency.py", tmp_path, "--docs", docs)
    return results, docs.read_text()


@pytest.mark.parametrize("dataset", ["ecg5000", "mnist"])
def test_consistency_of_features(consistency, dataset):
    results = consistency[0]["datasets"][dataset]
    seed = results["features"]["0"]
    assert len(seed["methods"]) == METHODS
    assert len(seed["random"]) == len(seed["fractions"])
    for method in seed["methods"].values():
        for center in ("paper", "centered"):
            assert len(method[center]["most"]) == len(seed["fractions"])
            assert method[center]["most"][-1] == pytest.approx(seed["random"][-1], rel=1e-3)
    summary = results["features_summary"]["paper"]["integrated_gradients"]
    assert summary["area_ratio"]["mean"] == pytest.approx(
        seed["methods"]["integrated_gradients"]["paper"]["area_ratio"]
    )


@pytest.mark.parametrize("dataset", ["ecg5000", "mnist"])
def test_consistency_of_examples(consistency, dataset):
    results = consistency[0]["datasets"][dataset]["examples"]["0"]
    for rates in results["kernels"].values():
        # All examples: whatever their order, the rate is that of chance.
        assert rates["most"][-1] == pytest.approx(results["prior"], abs=1e-4)
        assert rates["least"][-1] == pytest.approx(results["prior"], abs=1e-4)


def test_page_keeps_what_it_had(consistency):
    page = consistency[1]
    assert page.startswith("# Results\n")
    assert page.count("<!-- label-free consistency: start -->") == 1
    assert page.count("integrated gradients |") == 2  # a row in each data set's table


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("examples")
    docs = tmp_path / "results.md"
    docs.write_text("# Results\n")
    results = run("papers/label_free_examples.py", tmp_path, "--docs", docs)
    return results, docs.read_text()


@pytest.mark.parametrize("dataset", ["ecg5000", "mnist"])
def test_similarity_rates(examples, dataset):
    for entry in examples[0]["consistency"][dataset].values():
        assert set(entry["methods"]) == {
            "DKNN",
            "SimplEx",
            "SimplEx, weights only",
            "TracIn",
            "TracIn, last weights",
            "influence",
        }
        for rates in entry["methods"].values():
            # All examples: whatever their order, the rate is that of chance.
            assert rates["most"][-1] == pytest.approx(entry["prior"], abs=1e-4)
            assert rates["least"][-1] == pytest.approx(entry["prior"], abs=1e-4)
        # After one epoch there is one checkpoint, of the weights that there are.
        assert (
            entry["methods"]["TracIn"]["most"] == entry["methods"]["TracIn, last weights"]["most"]
        )
        assert entry["methods"]["influence"]["residual_"] < 1e-3


def test_pretext_tasks(examples):
    pretext = examples[0]["pretext"]
    one_task = {f"{letter}-{letter}" for letter in "RDICU"}
    tasks = {"R-D", "R-I", "R-C", "D-I", "D-C", "I-C"}
    for kind in ("features", "absolute features", "examples"):
        for name, found in pretext[kind].items():
            without_labels = name in ("TracIn", "influence")
            expected = {p for p in one_task | tasks if not (without_labels and set(p) & {*"CU"})}
            assert set(found) == expected
            for pair, values in found.items():  # two runs
                assert len(values) == (1 if pair in one_task else 4)
                assert all(-1 <= v <= 1 for v in values)
    beside = pretext["beside exact"]
    assert set(beside["integrated gradients"]) == {1.0}
    assert min(beside["gradient SHAP, 5 draws"]) > 0.8


def test_page_of_examples(examples):
    page = examples[1]
    assert page.startswith("# Results\n")
    assert page.count("<!-- label-free examples: start -->") == 1
    assert page.count("mis-tiled |") == 3  # two tables, and the replication's row


def test_integrated_gradients(tmp_path):
    results = run("speed/integrated_gradients.py", tmp_path)
    for network in ("mnist_cnn", "ecg_lstm"):
        entry = results["speed"][network]["4"]
        assert min(entry["ratio"], entry["ours_seconds"], entry["floor_cpu_seconds"]) > 0
        errors = results["completeness_error"][network]
        assert errors["200"]["mean"] <= errors["50"]["mean"] + 1e-3
    assert set(results["peak_memory"]["mnist_cnn"]) == {"ours", "captum"}


def test_dknn(tmp_path):
    results = run("speed/dknn.py", tmp_path)
    assert {"top_examples", "transform, sparse", "transform, dense"} <= set(results["speed"])
    for entry in results["speed"].values():
        assert entry["60"]["ratio"] > 0


def test_simplex(tmp_path):
    results = run("speed/simplex.py", tmp_path)
    for name in ("normal", "ecg_mlp"):
        for locality in ("0", "0.01"):
            entry = results["speed"][name]["3"][f"locality={locality}"]
            assert entry["seconds_ratio"] > 0
            assert entry["worst_excess_ratio"] < 0.01


def test_influence(tmp_path, monkeypatch):
    monkeypatch.delenv("PYDVL_PYTHON", raising=False)
    docs = tmp_path / "results.md"
    results = run("speed/influence.py", tmp_path, "--docs", docs)
    assert results["pydvl"] is None  # its environment is made by hand
    assert results["solver"]["ours, auto"] == "exact"
    for curvature in ("gauss_newton", "hessian"):
        entry = results["agreement"]["1.0"][curvature]
        assert entry["residual"] <= 1e-4
        assert entry["ours, auto"] > 0.99  # with so much damping
    assert results["speed"]["ours, auto"]["seconds"] > 0
    assert "pyDVL not run" in docs.read_text()


def test_influence_leave_one_out(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/influence_leave_one_out.py", tmp_path, "--docs", docs)
    for name in ("mlp", "conv"):
        entry = results["networks"][name]["0"]
        for what in ("encoder", "whole network"):
            found = entry[what]["influence, Gauss–Newton"]
            assert -1 <= found["spearman"] <= 1
    assert "leaving examples out" in docs.read_text()


def test_architecture_choice(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/architecture_choice.py", tmp_path, "--docs", docs)
    for name in ("ecg5000", "wine"):
        entries = results["datasets"][name]["0"]["architectures"]
        assert len(entries) >= 3
        accuracy = [entry["accuracy"] for entry in entries]
        for part in results["summary"][name].values():
            for summary in part.values():
                worst = 100 * (max(accuracy) - min(accuracy))
                assert 0 <= summary["regret"]["lowest"] <= worst + 1e-6
                assert -1 <= summary["spearman"]["mean"] <= 1
    assert docs.read_text().count("| Spearman, wine |") == 2


def test_sampled_scores(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/sampled_scores.py", tmp_path, "--docs", docs)
    scores = results["networks"]["120"]["scores"]
    assert set(scores) == {"noise", "variance", "variance, threshold 0.5"}
    for entry in scores.values():
        assert entry["n_drawn"] == 4
        assert len(entry["coverage"]) == len(entry["layers"]) + 1
        assert entry["cpu_ratio"] > 0
    assert "| noise, 4 of 120 units |" in docs.read_text()


def test_dataset_drift(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/dataset_drift.py", tmp_path, "--docs", docs)
    for setting in results["seeds"]["0"].values():
        assert len(setting["clipped"]["rejected"]) == len(setting["clipped"]["relative"]["means"])
        for place in setting.values():
            assert {"relative", "distance"} <= set(place)
            # The first value is without drift.
            assert len(place["relative"]["means"]) == len(place["relative"]["auc"]) + 1
    assert docs.read_text().count("all layers, clipped") == 3


def test_drift_of_tables(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/drift_tables.py", tmp_path, "--docs", docs)
    for found in results["seeds"]["0"].values():
        assert 0 <= found["noise score"] <= 1 and 0 <= found["reconstruction"] <= 1
    assert "| one column + 6 sd |" in docs.read_text()


def test_anomalies(tmp_path):
    docs = tmp_path / "results.md"
    found = run("papers/anomalies.py", tmp_path, "--docs", docs)["seeds"]["0"]
    assert set(found["tables"]) == {"breast cancer", "wine", "numbers and categories"}
    places = [*found["tables"].values(), {"segments": found["heartbeats"]["bump"]}]
    assert all(0 <= v <= 1 for kinds in places for maps in kinds.values() for v in maps.values())
    for drifts in found["p-values"].values():
        assert all(0 <= p <= 1 for shares in drifts.values() for p in shares.values())
    assert "| one column + 6 sd |" in docs.read_text()


def test_concepts(tmp_path):
    results = run("speed/concepts.py", tmp_path)
    assert [entry["batch_size"] for entry in results["speed"]] == [50, 200]
    assert all(entry["ratio"] > 0 for entry in results["speed"])


def test_srae_table_1(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/srae_table1.py", tmp_path, "--docs", docs)
    for dataset, most in (("mnist", 16), ("ecg5000", 14)):
        entry = results["datasets"][dataset]["0"]["0"]
        assert set(entry["methods"]) > {"SRAE", "NN", "SAE"}
        for value in (entry["output"], entry["Z"], entry["methods"]["SRAE"]["locality"]):
            assert 0 <= value <= np.log(most)
    assert docs.read_text().count("| SRAE |") == 2


def test_speed_of_score_constraints(tmp_path):
    docs = tmp_path / "results.md"
    results = run("speed/score_constraint.py", tmp_path, "--docs", docs)
    assert len(results["speed"]) == 6
    for entry in results["speed"].values():
        assert all(entry[name]["ratio"] > 0 for name in ("noise", "variance", "both"))
    assert "| pooling, 3 units, 8 samples |" in docs.read_text()


def test_score_constraints(tmp_path):
    options = ("--docs", tmp_path / "results.md", "--runs", tmp_path / "runs")
    results = run("papers/score_constraints.py", tmp_path, *options)
    assert len(results["runs"]) == len(list((tmp_path / "runs").iterdir())) == 2 * 10
    rows = {tuple(entry["row"]): entry for entry in results["summary"]}
    assert len(rows) == 10
    plain = rows.pop((0.0, 0.0, 20))
    assert plain["gain"] == 0 and plain["seconds_ratio"] == 1
    for (lambda_noise, lambda_variance, every), entry in rows.items():
        paired = [r for r in results["runs"] if r["score_every"] == every]
        paired = [
            r
            for r in paired
            if (r["lambda_noise"], r["lambda_variance"]) == (lambda_noise, lambda_variance)
        ]
        assert entry["accuracy"] == pytest.approx(np.mean([r["accuracy"] for r in paired]), 1e-4)
        assert all(("noise_score" in r) == (lambda_noise > 0) for r in paired)
    # What there is is not trained again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    again = run("papers/score_constraints.py", tmp_path, *options)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert again["summary"] == results["summary"]


def test_score_curve(tmp_path):
    docs = tmp_path / "results.md"
    results = run("speed/score_curve.py", tmp_path, "--docs", docs)
    entry = results["speed"]["mnist_encoder"]["1"]
    assert (entry["n_layers"], entry["n_units"]) == (4, 128)
    assert entry["largest_relative_error"] < 1e-3
    for clock in ("wall", "cpu"):
        assert min(entry[clock]["ratios"].values()) > 0
    assert "| mnist_encoder, 1 thread |" in docs.read_text()


def test_jacobian_regimes(tmp_path):
    docs = tmp_path / "results.md"
    results = run("speed/jacobian_regimes.py", tmp_path, "--docs", docs)
    for name, by_saliency in results["speed"].items():
        for entry in by_saliency.values():
            # Ours were taken the other way, and are the same.
            assert entry["found"]["affine" if "conv2d" in name else "columns"] is True
            assert entry["largest_relative_difference"] < 1e-3
            assert entry["cpu_ratio"] > 0
    assert "| mlp, 784 outputs | few columns |" in docs.read_text()


def test_one_sample(tmp_path):
    docs = tmp_path / "results.md"
    results = run("speed/one_sample.py", tmp_path, "--docs", docs)
    for entry in results["speed"]:
        assert min(entry["ours_cpu_seconds"], entry["theirs_cpu_seconds"]) > 0
    assert docs.read_text().count("<!-- speed of one sample: start -->") == 1
