"""
Digits: which concepts is a prediction made of?
===============================================

Two ways to take a layer apart. :class:`~sklexplain.SRAEExplainer` looks for the *few* numbers that
are enough to tell the network's output, and shows what each adds.
:class:`~sklexplain.SparseDictionary` looks for *many* directions, of which each image uses a
handful, and shows the images that have most of each. Both are trained without labels.
"""

# %%
# A classifier
# ------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain import SparseDictionary, SRAEExplainer
from sklexplain.plotting import ConceptDisplay, DictionaryDisplay

digits = load_digits()
images = (digits.images / 16).astype("float32")[:, None]
X, X_test, y, y_test = train_test_split(
    images, digits.target, train_size=1000, test_size=500, random_state=0
)

torch.manual_seed(0)
network = nn.Sequential(
    *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
    *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
    *(nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10)),
)
classifier = NeuralNetClassifier(
    network,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.005,
    max_epochs=12,
    batch_size=64,
    train_split=None,
    iterator_train__shuffle=True,
    verbose=0,
).fit(X, y)
print(f"accuracy on {len(X_test)} images held out: {classifier.score(X_test, y_test):.3f}")

# %%
# A few concepts of one class
# ---------------------------
# How many numbers does the score of the digit 8 need? A question of its own for each number.

settings = {"hidden_layer_sizes": (64,), "max_epochs": 60, "validation_split": None, "lr": 0.005}
settings |= {"net_params": {"batch_size": 200}, "random_state": 0}
for n_concepts in [1, 2, 4]:
    concepts = SRAEExplainer(classifier, target=8, n_concepts=n_concepts, **settings).fit(X)
    told, rebuilt = concepts.score_parts(X_test)
    print(
        f"{n_concepts} concepts: R² of the score {told:.2f}, of the layer's relevant units "
        f"{rebuilt:.2f}; {concepts.n_active_concepts_} used"
    )

# %%
# What they add to an 8, and where in the image they come from (red adds to the concept, blue takes
# away):

eight = int(np.flatnonzero(y_test == 8)[0])
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ConceptDisplay.from_estimator(concepts, X_test, index=eight, ax=ax)
plt.show()

# %%
# A dictionary of the whole layer
# -------------------------------
# 40 directions, at most four for each image.

dictionary = SparseDictionary(classifier, n_concepts=40, k=4, max_epochs=60, random_state=0).fit(X)
print(f"R² of the layer on images held out: {dictionary.score(X_test):.2f}")
print(f"{dictionary.n_active_concepts_} concepts are used by some image")

figure, ax = plt.subplots(figsize=(6, 8), layout="constrained")
DictionaryDisplay.from_estimator(dictionary, X_test, n_concepts=6, n_examples=4, ax=ax)
plt.show()

# %%
# Do concepts stand for digits?
# -----------------------------
# The dictionary has never seen a label. How pure are the ten images that have most of a concept?

values, index = dictionary.top_examples(X_test, k=10)
used = values[:, -1] > 0
purity = np.array([np.bincount(labels, minlength=10).max() / 10 for labels in y_test[index]])
counts = np.array([np.bincount(labels, minlength=10).argmax() for labels in y_test[index]])
print(f"{used.sum()} concepts that ten images have; their ten are of one digit in", end=" ")
print(
    f"{np.mean(purity[used] == 1):.0%}, at least eight of ten in {np.mean(purity[used] >= 0.8):.0%}"
)
print("concepts by the digit that is most frequent among them:")
print("digit   ", *(f"{digit:3}" for digit in range(10)))
print("concepts", *(f"{np.sum(counts[used] == digit):3}" for digit in range(10)))

# %%
# What was found
# --------------
# * One number is enough to tell the score of the digit 8 (R² .99), which is no wonder: it is one
#   number. But it says little of the layer that the score was made from (.25). Four concepts tell
#   the score as well, and rebuild 86 % of the units that matter to it. ``score`` is the harmonic
#   mean of the two, so that a search does not choose the empty explanation.
# * The dictionary rebuilds 92 % of the layer from four directions an image. Half of its concepts
#   stand for a digit: of the ten images that have most of them, at least eight are of one digit in
#   52 %. The others are parts that digits share. Every digit has a concept, the 1 has seven.
# * The last concept drawn shows zeros, and what adds to it is the *empty* middle.
