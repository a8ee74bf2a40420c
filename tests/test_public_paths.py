"""What users import, and files they have saved, stay where they are when the inside moves."""

import importlib
import warnings
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"

# Every path that the README, docstrings, CHANGELOG or benchmarks name.
PUBLIC = {
    "sklexplain": [
        "AnomalyAttributor",
        "ClaDecExplainer",
        "DKNNImportance",
        "EmbeddingAttributor",
        "InfluenceImportance",
        "LabelFreeAttributor",
        "NoiseScorer",
        "RelevanceMasker",
        "SRAEExplainer",
        "LatentSurrogate",
        "SimplExImportance",
        "SparseDictionary",
        "TracInImportance",
        "VarianceScorer",
        "__version__",
    ],
    "sklexplain.anomalies": ["AnomalyAttributor"],
    "sklexplain.attribution": [
        "EmbeddingAttributor",
        "LabelFreeAttributor",
        "RelevanceMasker",
        "time_segments",
    ],
    "sklexplain.base": ["BaseExplainer"],
    "sklexplain.concepts": ["SRAEExplainer", "SparseDictionary"],
    "sklexplain.datasets": [
        "load_ecg5000",
        "make_frequency_series",
        "make_motif_series",
        "make_relevant_columns",
    ],
    "sklexplain.decoding": ["ClaDecExplainer"],
    "sklexplain.examples": [
        "BaseExampleImportance",
        "DKNNImportance",
        "InfluenceImportance",
        "SimplExImportance",
        "TracInImportance",
    ],
    "sklexplain.extending": [
        "Method",
        "Setup",
        "register_converter",
        "register_gradient_rule",
        "register_method",
    ],
    "sklexplain.metrics": [
        "active_units",
        "completeness_error",
        "concept_orthogonality",
        "evaluation_accuracy",
        "evaluation_accuracy_scorer",
        "faithfulness",
        "grid_parts",
        "interpretability",
        "interpretability_scorer",
        "latent_shift_curve",
        "locality",
        "map_sparsity",
        "roar",
        "saliency_correlation",
        "saliency_entropy",
        "similarity_rate",
        "unit_correlation",
        "voronoi_parts",
    ],
    "sklexplain.nets": [
        "Autoencoder",
        "AutoencoderModule",
        "CheckpointHistory",
        "ContrastiveEncoder",
        "ContrastiveModule",
        "Conv1dAutoencoder",
        "Conv2dAutoencoder",
        "LSTMAutoencoder",
        "MLPAutoencoder",
        "ScoreConstraint",
        "VariationalAutoencoder",
        "VariationalModule",
    ],
    "sklexplain.plotting": [
        "AnomalyDisplay",
        "AttributionDisplay",
        "ConceptDisplay",
        "DictionaryDisplay",
        "ExampleDisplay",
        "LatentShiftDisplay",
        "ReconstructionDisplay",
        "ScoreCurveDisplay",
        "SpectrumDisplay",
        "SurrogateDisplay",
    ],
    "sklexplain.report": ["RepresentationReport"],
    "sklexplain.scores": ["NoiseScorer", "VarianceScorer", "noise_scorer", "variance_scorer"],
    "sklexplain.surrogates": ["LatentSurrogate"],
    "sklexplain.utils": ["randomized_layers"],
    "sklexplain.utils.estimator_checks": ["nd_checks", "parametrize_nd_checks"],
}
PATHS = [(module, name) for module, names in PUBLIC.items() for name in names]


@pytest.mark.parametrize(("module", "name"), PATHS, ids=".".join)
def test_public_names_stay_where_they_are(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("file", "inputs", "codes"),
    [("autoencoder_0_1.skops", "X", "Z"), ("heartbeats_0_1.skops", "beats", "codes")],
)
def test_models_saved_by_version_0_1_load(file, inputs, codes):
    from sklexplain.report import load_model

    saved = np.load(DATA / "saved_0_1.npz")
    found = load_model(DATA / file).transform(saved[inputs])
    np.testing.assert_allclose(found, saved[codes], rtol=1e-5, atol=1e-6)
