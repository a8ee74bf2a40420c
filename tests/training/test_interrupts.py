"""What interrupts training ends it: nothing half trained looks fitted."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.nets import Autoencoder

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)


class CtrlC(Callback):
    """Interrupts the second epoch, in the middle."""

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def net(callback):
    module = nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=-1))
    return NeuralNetClassifier(module, max_epochs=4, verbose=0, callbacks=[callback])


MAKERS = {
    "net": net,
    "pipeline": lambda callback: make_pipeline(StandardScaler(), net(callback)),
    "search": lambda callback: GridSearchCV(net(callback), {"lr": [0.1]}, cv=2),
}


@pytest.mark.parametrize("name", MAKERS)
def test_nets_that_an_explainer_trains(name):
    explainer = LabelFreeAttributor(MAKERS[name](CtrlC()))
    with pytest.raises(KeyboardInterrupt, match="NeuralNetClassifier was interrupted in epoch 2"):
        explainer.fit(X, y)
    with pytest.raises(NotFittedError):
        check_is_fitted(explainer)
    stopping = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9)
    LabelFreeAttributor(MAKERS[name](stopping)).fit(X, y)  # no interruption


def test_a_search_ends():
    params = {"n_components": [1, 2]}
    autoencoder = Autoencoder(
        hidden_layer_sizes=(3,), max_epochs=3, net_params={"callbacks": [CtrlC()]}
    )
    search = GridSearchCV(autoencoder, params, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)


def test_a_net_that_its_user_trains_on():
    torch.manual_seed(0)
    quick = {"hidden_layer_sizes": (3,), "validation_split": None, "random_state": 0}
    fitted = Autoencoder(n_components=2, max_epochs=1, **quick).fit(X).net_
    fitted.partial_fit(X)
    fitted.callbacks_.append(("ctrl_c", CtrlC()))
    fitted.history.pop()
    with pytest.raises(KeyboardInterrupt):
        fitted.partial_fit(X)
