"""
Searching over λ, β and the layer with GridSearchCV
===================================================

An explanation is an estimator with a ``score`` that needs no labels, so its parameters can be
searched over like those of any model. Three searches follow, each with the question what its score
can compare and what it cannot.
"""

# %%
# The data: 569 tumours, 30 columns (scikit-learn's breast cancer), and a classifier of them.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import LabelFreeAttributor, SRAEExplainer
from sklexplain.nets import Autoencoder

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)


def table(search, *names):
    """Show the mean score of each candidate, one parameter down and one across."""
    results = pd.DataFrame(search.cv_results_["params"])
    results["score"] = search.cv_results_["mean_test_score"]
    return results.pivot(index=names[0], columns=names[1], values="score").round(3)


# %%
# λ: how much should an autoencoder learn of the labels?
# ------------------------------------------------------
# ``lambda_class`` is the weight of the cross-entropy of a class head on the code. With it,
# :class:`~sklexplain.nets.Autoencoder` scores accuracy, without it R²: so compare weights above 0
# only. ``scoring`` may be a dict; the reconstruction's R² is what the accuracy costs.


def reconstruction(model, X, y=None):
    """R² of the reconstruction behind the scaler."""
    scaled = model[:-1].transform(X)
    rebuilt = model[-1].inverse_transform(model[-1].transform(scaled))
    return 1 - np.sum((scaled - rebuilt) ** 2) / np.sum((scaled - scaled.mean(axis=0)) ** 2)


autoencoder = Autoencoder(
    n_components=3,
    hidden_layer_sizes=(16,),
    lambda_class=1.0,
    lr=0.01,
    max_epochs=25,
    validation_split=None,
    random_state=0,
)
by_lambda = GridSearchCV(
    make_pipeline(StandardScaler(), autoencoder),
    {"autoencoder__lambda_class": [0.01, 0.1, 1.0, 10.0]},
    scoring={"accuracy": "accuracy", "R²": reconstruction},
    refit="accuracy",
    cv=2,
).fit(X_train, y_train)
weights = by_lambda.cv_results_["param_autoencoder__lambda_class"].astype(float)
curves = {name: by_lambda.cv_results_[f"mean_test_{name}"] for name in ["accuracy", "R²"]}
print(pd.DataFrame(curves, index=pd.Index(weights, name="λ")).round(3).to_string())

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for name, marker in {"accuracy": "o", "R²": "s"}.items():
    ax.semilogx(weights, curves[name], marker=marker, label=name)
ax.set(xlabel="λ, weight of the labels", ylabel="score, mean of two folds", ylim=(0, 1))
ax.legend(frameon=False)
plt.show()

# %%
# β and the layer: where are concepts to be had?
# ----------------------------------------------
# :class:`~sklexplain.SRAEExplainer` explains the same output from whatever layer it is given, and
# its ``score`` is the harmonic mean of two R²: of that output, and of the layer's units that matter
# to it. The first compares layers; of the second, units of *another* layer are rebuilt each time,
# so look at both before you prefer a layer.

classifier = make_pipeline(
    StandardScaler(), MLPClassifier((32, 16), max_iter=500, random_state=0)
).fit(X_train, y_train)
print(f"accuracy of the classifier on tumours held out: {classifier.score(X_test, y_test):.3f}")

concepts = SRAEExplainer(
    classifier,
    n_concepts=3,
    hidden_layer_sizes=(32,),
    max_epochs=40,
    warm_up=10,
    lr=0.01,
    validation_split=None,
    net_params={"batch_size": 100},
    random_state=0,
)
grid = {
    "beta": [0, 0.3, 3.0],
    "layer": ["mlpclassifier.hidden_0", "mlpclassifier.hidden_1"],
}
by_beta = GridSearchCV(concepts, grid, cv=2).fit(X_train)
print(table(by_beta, "beta", "layer").to_string())
for layer in grid["layer"]:
    explainer = concepts.set_params(layer=layer, beta=0.3).fit(X_train)
    told, rebuilt = explainer.score_parts(X_test)
    print(f"{layer}: R² of the output {told:.3f}, of the units that matter {rebuilt:.3f}")

# %%
# The method of an attribution
# ----------------------------
# Of one representation, methods and baselines compare by how far masking the features that a map
# names moves it, over masking at random. The classifier is fitted, so the search explains it in
# every fold and never trains it again.

attributor = LabelFreeAttributor(classifier, layer="mlpclassifier.hidden_1", random_state=0)
by_method = GridSearchCV(
    attributor,
    {
        "method": ["saliency", "input_x_gradient", "integrated_gradients", "deep_lift"],
        "center": [False, True],
    },
    cv=2,
).fit(X_train)
print(table(by_method, "method", "center").to_string())
print("best:", by_method.best_params_)

# %%
# What must *not* be searched over by this score is the layer: masking moves every layer by another
# amount, and a layer that is easy to move would win.

for layer in ["hidden_0", "hidden_1"]:
    other = LabelFreeAttributor(classifier, layer=f"mlpclassifier.{layer}", random_state=0)
    other.fit(X_train)
    print(f"{layer}: score {other.score(X_test):.2f}, which says nothing about the layer's worth")

# %%
# What was found
# --------------
# * λ: from .1 on, the accuracy no longer rises (.97), while R² of the reconstruction falls from .74
#   to .60 at λ = 10. So λ = .1 has both. By accuracy alone the search cannot tell .1 from 10; a
#   second number says what the choice costs.
# * β: without reconstruction (0) concepts are worth next to nothing by this score; .3 and 3 hardly
#   differ, so this parameter needs no fine search.
# * The layer: concepts of the second hidden layer tell the output about as well as those of the
#   first (R² .997 and .987), and rebuild more of what matters there (.98 and .84). But the second
#   is narrower and nearer to the output, so there is less to rebuild.
# * The method: all that multiply gradients with differences from the baseline are alike here
#   (1.55), and plain gradients (saliency) are worse than masking at random (.92), as they do not
#   know how far a column is from its mean.
