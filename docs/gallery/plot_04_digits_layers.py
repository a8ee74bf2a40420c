"""
Digits: what does a layer keep?
===============================

From layer to layer a classifier throws away what it does not need. How much is left, and does what
is left still look like the image? :class:`~sklexplain.ClaDecExplainer` trains a decoder on a
layer's activations. Since decoders blur, a *reference* stands beside it: the same architecture,
trained to rebuild images and nothing else. What differs between the two is due to the classifier.
"""

# %%
# A small classifier of scikit-learn's digits
# -------------------------------------------
# 8 × 8 pixels, values from 0 to 1, two convolutions and a narrow layer of 16 units.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.plotting import ReconstructionDisplay

digits = load_digits()
images = (digits.images / 16).astype("float32")[:, None]
X, X_test, y, y_test = train_test_split(
    images, digits.target, train_size=1000, test_size=500, random_state=0
)

torch.manual_seed(0)
network = nn.Sequential()
network.add_module("conv1", nn.Conv2d(1, 8, 3, padding=1))
network.add_module("relu1", nn.ReLU())
network.add_module("conv2", nn.Conv2d(8, 16, 3, stride=2, padding=1))
network.add_module("relu2", nn.ReLU())
network.add_module("flat", nn.Flatten())
network.add_module("narrow", nn.Linear(256, 16))
network.add_module("relu3", nn.ReLU())
network.add_module("logits", nn.Linear(16, 10))
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
# Decode three layers
# --------------------
# Two numbers tell what a decoder makes of activations: the share of the pixels' variation that is
# rebuilt, and the share of rebuilt images that the classifier puts into the same class. The
# reference's share of the variation says what was possible.


def decoder(activations, image):
    """Build two hidden layers from the shape of a layer's activations to that of an image."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(int(np.prod(activations)), 96), nn.ReLU()),
        *(nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 64), nn.Unflatten(1, image)),
    )


explainers = {}
print("layer    pixels rebuilt   reference   same class")
for layer in ["relu2", "relu3", "logits"]:
    explainer = ClaDecExplainer(
        classifier,
        layer=layer,
        decoder=decoder,
        lr=0.003,
        max_epochs=60,
        validation_split=None,
        net_params={"batch_size": 100},
        random_state=0,
    ).fit(X)
    same, rebuilt = explainer.score_parts(X_test)
    squares = np.sum((X_test - X.mean(axis=0)) ** 2)
    reference = 1 - explainer.reconstruction_loss(X_test, reference=True).sum() / squares
    print(f"{layer:8} {rebuilt:14.2f} {reference:11.2f} {same:12.2f}")
    explainers[layer] = explainer

# %%
# See it
# ------
# The first images held out, of the digits 0 to 4, as the narrow layer keeps them.

shown = [int(np.flatnonzero(y_test == digit)[0]) for digit in range(5)]
figure, ax = plt.subplots(figsize=(8, 7), layout="constrained")
ReconstructionDisplay.from_estimator(explainers["relu3"], X_test, index=shown, ax=ax)
plt.show()

# %%
# Which digits look alike afterwards?
# -----------------------------------
# Images of one class that differ in style should become more like each other where style is thrown
# away: the variation within classes shrinks more than that between them.

print("layer    within classes   between classes   (share of the variation that is left)")
for layer, explainer in explainers.items():
    rebuilt = explainer.transform(X_test)
    within = between = before_within = before_between = 0
    for digit in range(10):
        mine = y_test == digit
        within += np.sum((rebuilt[mine] - rebuilt[mine].mean(axis=0)) ** 2)
        before_within += np.sum((X_test[mine] - X_test[mine].mean(axis=0)) ** 2)
        between += mine.sum() * np.sum((rebuilt[mine].mean(axis=0) - rebuilt.mean(axis=0)) ** 2)
        means = X_test[mine].mean(axis=0) - X_test.mean(axis=0)
        before_between += mine.sum() * np.sum(means**2)
    print(f"{layer:8} {within / before_within:14.2f} {between / before_between:17.2f}")

# %%
# What was found
# --------------
# * The second convolution keeps nearly everything (.93 of the pixels' variation). The narrow layer
#   keeps .71, and the ten logits, from which only a class is read, still .70. An image can be drawn
#   from what a classifier calls its opinion of it, and 97 % of these drawings get the same class.
# * With 16 units, .76 would have been possible, as the reference shows. So most of the loss in the
#   narrow layer is due to its width, and only the rest (.05) to the classifier's having better
#   things to do.
# * What is lost is style. Means of classes are as far apart as before (1.02), and images of one
#   class have .59 of their variation left, behind the logits .56.
