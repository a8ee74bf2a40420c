"""What results of single scripts must be, in a tiny size: ``CHECKS[name](results, page)``."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

CHECKS = {}


def of(name):
    """Register what is checked of a script."""

    def register(function):
        CHECKS[name] = function
        return function

    return register


@of("papers.label_free_consistency")
def consistency(results, page):
    for dataset in ("ecg5000", "mnist"):
        found = results["datasets"][dataset]
        seed = found["features"]["0"]
        assert len(seed["methods"]) == 13
        assert len(seed["random"]) == len(seed["fractions"])
        for method in seed["methods"].values():
            for center in ("paper", "centered"):
                assert len(method[center]["most"]) == len(seed["fractions"])
                assert method[center]["most"][-1] == pytest.approx(seed["random"][-1], rel=1e-3)
        summary = found["features_summary"]["paper"]["integrated_gradients"]
        assert summary["area_ratio"]["mean"] == pytest.approx(
            seed["methods"]["integrated_gradients"]["paper"]["area_ratio"]
        )
        examples = found["examples"]["0"]
        for rates in examples["kernels"].values():
            # All examples: whatever their order, the rate is that of chance.
            assert rates["most"][-1] == pytest.approx(examples["prior"], abs=1e-4)
            assert rates["least"][-1] == pytest.approx(examples["prior"], abs=1e-4)
    assert page.count("integrated gradients |") == 2  # a row in each data set's table


@of("papers.label_free_examples")
def examples(results, page):
    for dataset in ("ecg5000", "mnist"):
        for entry in results["consistency"][dataset].values():
            methods = entry["methods"]
            names = {"DKNN", "SimplEx", "SimplEx, weights only", "TracIn", "influence"}
            assert set(methods) == names | {"TracIn, last weights"}
            for rates in methods.values():
                # All examples: whatever their order, the rate is that of chance.
                assert rates["most"][-1] == pytest.approx(entry["prior"], abs=1e-4)
                assert rates["least"][-1] == pytest.approx(entry["prior"], abs=1e-4)
            # After one epoch there is one checkpoint, of the weights that there are.
            assert methods["TracIn"]["most"] == methods["TracIn, last weights"]["most"]
            assert methods["influence"]["residual_"] < 1e-3
    pretext = results["pretext"]
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
    assert page.count("mis-tiled |") == 3  # two tables, and the replication's row


@of("speed.integrated_gradients")
def integrated_gradients(results, page):
    for network in ("mnist_cnn", "ecg_lstm"):
        entry = results["speed"][network]["4"]
        assert min(entry["ratio"], entry["ours_seconds"], entry["floor_cpu_seconds"]) > 0
        errors = results["completeness_error"][network]
        assert errors["200"]["mean"] <= errors["50"]["mean"] + 1e-3
    assert set(results["peak_memory"]["mnist_cnn"]) == {"ours", "captum"}


@of("speed.dknn")
def dknn(results, page):
    assert {"top_examples", "transform, sparse", "transform, dense"} <= set(results["speed"])
    assert all(entry["60"]["ratio"] > 0 for entry in results["speed"].values())


@of("speed.simplex")
def simplex(results, page):
    for name in ("normal", "ecg_mlp"):
        for locality in ("0", "0.01"):
            entry = results["speed"][name]["3"][f"locality={locality}"]
            assert entry["seconds_ratio"] > 0
            assert entry["worst_excess_ratio"] < 0.01


@of("speed.tracin")
def tracin(results, page):
    assert results["mnist_cnn"]["largest_relative_error"] < 1e-3


@of("speed.influence")
def influence(results, page):
    assert results["pydvl"] is None  # its environment is made by hand
    assert results["solver"]["ours, auto"] == "exact"
    for curvature in ("gauss_newton", "hessian"):
        entry = results["agreement"]["1.0"][curvature]
        assert entry["residual"] <= 1e-4
        assert entry["ours, auto"] > 0.99  # with so much damping
    assert results["speed"]["ours, auto"]["seconds"] > 0
    assert "pyDVL not run" in page


@of("papers.influence_leave_one_out")
def influence_leave_one_out(results, page):
    for name in ("mlp", "conv"):
        entry = results["networks"][name]["0"]
        for what in ("encoder", "whole network"):
            assert -1 <= entry[what]["influence, Gauss–Newton"]["spearman"] <= 1


@of("papers.architecture_choice")
def architecture_choice(results, page):
    for name in ("ecg5000", "wine"):
        entries = results["datasets"][name]["0"]["architectures"]
        assert len(entries) >= 3
        accuracy = [entry["accuracy"] for entry in entries]
        for part in results["summary"][name].values():
            for summary in part.values():
                worst = 100 * (max(accuracy) - min(accuracy))
                assert 0 <= summary["regret"]["lowest"] <= worst + 1e-6
                assert -1 <= summary["spearman"]["mean"] <= 1
    assert page.count("| Spearman, wine |") == 2


@of("papers.sampled_scores")
def sampled_scores(results, page):
    scores = results["networks"]["120"]["scores"]
    assert set(scores) == {"noise", "variance", "variance, threshold 0.5"}
    for entry in scores.values():
        assert entry["n_drawn"] == 4
        assert len(entry["coverage"]) == len(entry["layers"]) + 1
        assert entry["cpu_ratio"] > 0
    assert "| noise, 4 of 120 units |" in page


@of("papers.dataset_drift")
def dataset_drift(results, page):
    for setting in results["seeds"]["0"].values():
        assert len(setting["clipped"]["rejected"]) == len(setting["clipped"]["relative"]["means"])
        for place in setting.values():
            assert {"relative", "distance"} <= set(place)
            # The first value is without drift.
            assert len(place["relative"]["means"]) == len(place["relative"]["auc"]) + 1
    assert page.count("all layers, clipped") == 3


@of("papers.drift_tables")
def drift_tables(results, page):
    for found in results["seeds"]["0"].values():
        assert 0 <= found["noise score"] <= 1 and 0 <= found["reconstruction"] <= 1
    assert "| one column + 6 sd |" in page


@of("papers.anomalies")
def anomalies(results, page):
    found = results["seeds"]["0"]
    assert set(found["tables"]) == {"breast cancer", "wine", "numbers and categories"}
    places = [*found["tables"].values(), {"segments": found["heartbeats"]["bump"]}]
    assert all(0 <= v <= 1 for kinds in places for maps in kinds.values() for v in maps.values())
    for drifts in found["p-values"].values():
        assert all(0 <= p <= 1 for shares in drifts.values() for p in shares.values())
    assert "| one column + 6 sd |" in page


@of("speed.concepts")
def concepts(results, page):
    assert [entry["batch_size"] for entry in results["speed"]] == [50, 200]
    assert all(entry["ratio"] > 0 for entry in results["speed"])


@of("papers.srae_table1")
def srae_table1(results, page):
    for dataset, most in (("mnist", 16), ("ecg5000", 14)):
        entry = results["datasets"][dataset]["0"]["0"]
        assert set(entry["methods"]) > {"SRAE", "NN", "SAE"}
        for value in (entry["output"], entry["Z"], entry["methods"]["SRAE"]["locality"]):
            assert 0 <= value <= np.log(most)
    assert page.count("| SRAE |") == 2


@of("papers.concepts_dictionary")
def concepts_dictionary(results, page):
    assert len(results["planted"]) == 4
    for layer in results["heartbeats"]["0"].values():
        assert set(layer) == {"dictionary of 64", "dictionary of 256", "PCA", "NMF"}
    assert "| encoder.relu1 | PCA |" in page


@of("speed.score_constraint")
def speed_of_score_constraints(results, page):
    assert len(results["speed"]) == 6
    for entry in results["speed"].values():
        assert all(entry[name]["ratio"] > 0 for name in ("noise", "variance", "both"))
    assert "| pooling, 3 units, 8 samples |" in page


@of("papers.score_constraints")
def score_constraints(results, page):
    assert len(results["runs"]) == 2 * 10
    rows = {tuple(entry["row"]): entry for entry in results["summary"]}
    assert len(rows) == 10
    plain = rows.pop((0.0, 0.0, 20))
    assert plain["gain"] == 0 and plain["seconds_ratio"] == 1
    for row, entry in rows.items():
        names = ("lambda_noise", "lambda_variance", "score_every")
        paired = [r for r in results["runs"] if tuple(r[name] for name in names) == row]
        assert entry["accuracy"] == pytest.approx(np.mean([r["accuracy"] for r in paired]), 1e-4)
        assert all(("noise_score" in r) == (row[0] > 0) for r in paired)


@of("speed.score_curve")
def score_curve(results, page):
    entry = results["speed"]["mnist_encoder"]["1"]
    assert (entry["n_layers"], entry["n_units"]) == (4, 128)
    assert entry["largest_relative_error"] < 1e-3
    for clock in ("wall", "cpu"):
        assert min(entry[clock]["ratios"].values()) > 0
    assert "| mnist_encoder, 1 thread |" in page


@of("speed.jacobian_regimes")
def jacobian_regimes(results, page):
    for name, by_saliency in results["speed"].items():
        for entry in by_saliency.values():
            # Ours were taken the other way, and are the same.
            assert entry["found"]["affine" if "conv2d" in name else "columns"] is True
            assert entry["largest_relative_difference"] < 1e-3
            assert entry["cpu_ratio"] > 0
    assert "| mlp, 784 outputs | few columns |" in page


@of("speed.anomalies")
def speed_of_anomalies(results, page):
    assert all(min(row["seconds"].values()) > 0 for row in results["rows"])
    assert "× for neighbours" in page


@of("speed.one_sample")
def one_sample(results, page):
    for entry in results["speed"]:
        assert min(entry["ours_cpu_seconds"], entry["theirs_cpu_seconds"]) > 0


@of("speed.decoding")
def decoding(results, page):
    cases = [entry["case"] for entry in results["speed"]]
    assert cases == ["table"] * 2 + ["series"] * 2 + ["image"] * 2
    assert all(entry["ratio"] > 0 for entry in results["speed"])


@of("papers.cladec_tables")
def cladec_tables(results, page):
    pieces = results["runs"]["0"]
    assert len(pieces) == 13
    for piece in pieces.values():
        assert piece["loss"] > 0
        assert np.isclose(piece["accuracy"], 1 - len(piece["wrong"]) / 30, atol=1e-4)
    for row in ("-1", "-2", "weight 0", "weight 0.99", "all epochs", "0 epochs", "heartbeats"):
        assert page.count(f"| {row} |") == 1
    assert "Not computed" not in page


@of("papers.cladec_training")
def cladec_training(results, page):
    rows = results["closed"]["0"]
    assert list(rows) == ["0 epochs, normed", "0 epochs", "1 epochs", "2 epochs"]
    assert set(results["trained"]["0"]) == {"0 epochs", "1 epochs"}
    assert all(row["loss_ridge"] > 0 and row["loss_kernel_ridge"] > 0 for row in rows.values())
    for name in rows:
        assert page.count(f"| {name} |") == 1
    assert "| 1 epochs to 2 epochs |" in page


@of("papers.embedding_sparsity")
def embedding_sparsity(results, page):
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


@of("papers.score_curves")
def score_curves(results, page):
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


@of("papers.layer_randomisation")
def layer_randomisation(results, page):
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


@of("papers.drift")
def drift(results, page):
    piece = results["pieces"]["seed 0"]
    assert len(piece["relative"]) == 16
    for entry in piece["relative"].values():
        assert len(entry["clipped"]) == len(entry["not clipped"]) == len(results["lambdas"])
    for rhos in results["spearman"].values():
        assert all(-1 <= rho <= 1 for rho in (*rhos["clipped"], *rhos["not clipped"]))
    assert "| Grad-CAM | sum | var |" in page


@of("papers.corpus_foil")
def corpus_foil(results, page):
    found = results["seeds"]["0"]
    for name in ("digits", "heartbeats"):
        assert set(found["planted"][name]) == {"weak", "strong"}
        for maps in found["planted"][name].values():
            assert all(0 <= entry["auroc"] <= 1 for entry in maps.values())
        assert len(found["fall"][name]) == 2
    assert page.count("| digits | corpus and foil, dot |") == 1


@of("papers.contrastive_influence")
def contrastive_influence(results, page):
    found = results["seeds"]["0"]
    for loss in ("stability", "nt_xent"):
        assert "DKNN" in found[loss]
        for ranks in found[loss].values():
            assert all(-1 <= value <= 1 for value in ranks.values())
    assert "| DKNN |" in page


@of("papers.vae_disentangling")
def vae_disentangling(results, page):
    assert set(results["runs"]) == {
        f"seed 0, {name}" for name in ("beta 1", "beta 5", "TC, beta 5", "untrained")
    }
    for run in results["runs"].values():
        assert len(run["active"]) == len(run["divergence"]) == 3
        for maps in run["maps"].values():
            assert -1 <= maps["pearson"] <= 1
            assert 0 <= maps["entropy"] <= np.log(3) + 1e-6
    assert results["spearman"]["both"]["gradient_shap, entropy"]["n"] == 3
    assert page.count("| TC, β = 5 |") == 3


@of("papers.label_free_contrastive")
def label_free_contrastive(results, page):
    runs, (name,) = results["runs"], results["chosen"].values()
    by = {key: run["probe"]["all labels"]["validation"] for key, run in runs.items()}
    # What is chosen is best on validation beats.
    assert by[f"seed 0, {name}"] == max(by[f"seed 0, {v}"] for v in results["settings"]["views"])
    rates = runs[f"seed 0, {name}"]["examples"]
    for method in ("DKNN", "SimplEx"):
        for side in ("most", "least"):
            # All examples: whatever their order, the rate is that of chance.
            assert rates[method][side][-1] == pytest.approx(rates["prior"], abs=1e-4)
    assert "| raw beats | 140 |" in page


@of("papers.roar")
def roar(results, page):
    assert len(results["pieces"]) == 6
    for piece in results["pieces"].values():
        for curves in (piece["attributed"], piece["random"]):
            assert all(
                len(curves[name]) == 2 for name in ("loss", "explained", "whole", "accuracy")
            )
        gains = np.subtract(piece["attributed"]["loss"], piece["random"]["loss"])
        # The judge has seen networks in the order in which roar returns their scores.
        assert trapezoid(gains, piece["shares"]) / 0.5 == pytest.approx(piece["gain"], abs=1e-5)
    for dataset in ("ecg5000", "mnist"):
        whole = {
            piece["attributed"]["loss"][0]
            for key, piece in results["pieces"].items()
            if key.startswith(dataset)
        }
        assert len(whole) == 1  # the same network, whatever explains it
