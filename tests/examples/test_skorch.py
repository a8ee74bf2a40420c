"""Gradients of what a skorch net's training minimised, against the net's own get_loss."""

import copy
import pickle
import types

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import nn
from torch.nn import functional as F
from torch.utils.data import SubsetRandomSampler, WeightedRandomSampler

from sklexplain import InfluenceImportance, TracInImportance

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype(np.float32)
QUERY = RNG.normal(size=(9, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
NUMBERS = RNG.normal(size=(40, 2)).astype(np.float32)
MANY = (RNG.random((40, 3)) > 0.5).astype(np.float32)
BINARY = (LABELS > 0).astype(np.float32)
WEIGHTS = torch.tensor([1.0, 5.0, 0.2])


class Net(nn.Module):
    def __init__(self, n_out=3, softmax=False):
        super().__init__()
        self.encoder, self.out, self.softmax = nn.Linear(4, 5), nn.Linear(5, n_out), softmax

    def forward(self, x):
        z = self.out(self.encoder(x).tanh())
        return z.softmax(dim=1) if self.softmax else z


class Reconstructor(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class WithCode(Reconstructor):
    def forward(self, x):
        code = self.encoder(x)
        return self.decoder(code), code


class Variational(nn.Module):
    """Draws in training only, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(2, 4)

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else 0
        code = mean + noise * (log_variance / 2).exp()
        return {"x": self.decoder(code), "mean": mean, "log_variance": log_variance}


class Recurrent(nn.Module):
    """A label for every step."""

    def __init__(self):
        super().__init__()
        self.encoder, self.out = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 5)

    def forward(self, x):
        return self.out(self.encoder(x)[0]).transpose(1, 2)


def make(kind, module, y, X=X, **params):
    """A net after a little training."""
    settings = {"max_epochs": 2, "verbose": 0, "train_split": None, "lr": 0.05}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(module, **(settings | params)).fit(X, y)


def classifier(kind=NeuralNetClassifier, **params):
    """One that is trained on logits."""
    return make(kind, Net, LABELS, **({"criterion": nn.CrossEntropyLoss} | params))


def obvious(net, X, target, weights=None):
    """Gradients of the net's own get_loss on batches of one, on a copy in eval mode."""
    net = copy.deepcopy(net)
    net.module_.eval().requires_grad_(True)
    parameters = list(net.module_.parameters())
    rows = []
    for i in range(len(X)):
        x, y = torch.as_tensor(X[i : i + 1]), torch.as_tensor(target[i : i + 1])
        loss = net.get_loss(net.infer(x), y, X=x, training=True)
        loss = loss * (1 if weights is None else float(weights[i]))
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        rows.append(torch.cat([(p * 0 if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(rows).detach().numpy()


def check(net, y, target, weights=None, X=X, **params):
    """Compare products of gradients; return the explainer."""
    tracin = TracInImportance(net, parameters="all", **params).fit(X, y)
    gradients = obvious(net, X, target, weights)
    expected = net.lr * gradients @ gradients.T
    np.testing.assert_allclose(
        tracin.transform(X), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max()
    )
    return tracin


# -- what training minimised


@pytest.mark.parametrize(
    ("net", "y", "target"),
    [
        (lambda: make(NeuralNetClassifier, Net(softmax=True), LABELS), LABELS, LABELS),
        (classifier, LABELS, LABELS),
        (classifier, LABELS.astype(np.int32), LABELS),
        (classifier, LABELS.astype(float), LABELS),
        (lambda: classifier(criterion__label_smoothing=0.1), LABELS, LABELS),
        (lambda: classifier(criterion=nn.MultiMarginLoss), LABELS, LABELS),
        (lambda: make(NeuralNetRegressor, Net(2), NUMBERS), NUMBERS.astype(float), NUMBERS),
        (lambda: make(NeuralNetRegressor, Net(1), NUMBERS[:, :1]), NUMBERS[:, :1], NUMBERS[:, :1]),
        (lambda: make(NeuralNetBinaryClassifier, Net(1), BINARY), BINARY, BINARY),
        (lambda: make(NeuralNetBinaryClassifier, Net(1), BINARY), BINARY.astype(int), BINARY),
        (lambda: make(NeuralNetBinaryClassifier, Net(1), BINARY), BINARY > 0, BINARY),
        (
            lambda: make(NeuralNet, Net, MANY, criterion=nn.BCEWithLogitsLoss),
            MANY.astype(int),
            MANY,
        ),
        (lambda: make(NeuralNet, Net(4), LABELS, criterion=nn.CrossEntropyLoss), LABELS, LABELS),
    ],
    ids=[
        *("probabilities", "logits", "int32", "whole numbers", "smoothed", "margin", "regressor"),
        *("one number", "binary", "binary int", "binary bool", "several labels", "plain net"),
    ],
)
def test_the_loss_that_nets_are_trained_on(net, y, target):
    check(net(), y, target)


@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions(criterion, reduction):
    params = {"criterion": criterion, "criterion__reduction": reduction, "lr": 0.01}
    check(make(NeuralNetRegressor, Net(2), NUMBERS, **params), NUMBERS, NUMBERS)
    check(make(NeuralNetRegressor, Reconstructor, X, **params), None, X)


def test_divergences_are_summed_over_features():
    params = {"criterion": nn.KLDivLoss, "criterion__reduction": "batchmean"}
    check(make(NeuralNet, Net, MANY, **params), MANY, MANY)


def test_weights_of_classes_are_those_of_training():
    net = classifier(criterion__weight=WEIGHTS)
    weights = WEIGHTS.numpy()[LABELS]
    tracin = check(net, LABELS, LABELS, weights / weights.mean())
    # Of all examples, the mean is what the net's own loss makes of them.
    with tracin._door(X):
        network = tracin._network()
        losses = tracin._losses(network)(network.tensor(tracin._examples))
    whole = net.get_loss(net.forward(X), torch.as_tensor(LABELS))
    assert losses.mean().item() == pytest.approx(whole.item(), rel=1e-5)


def test_labels_that_are_ignored():
    series = RNG.normal(size=(30, 6, 4)).astype(np.float32)
    labels = RNG.integers(0, 5, (30, 6))
    labels[::2, 4:] = labels[3, 1:] = -100
    net = make(NeuralNet, Recurrent, labels, series, criterion=nn.CrossEntropyLoss)
    n_labels = (labels != -100).sum(axis=1)
    check(net, labels, labels, n_labels / n_labels.mean(), series)
    labels[5] = -100  # all of a sample's, whose loss is no number by itself
    importance = TracInImportance(net, parameters="all").fit(series, labels).transform(series)
    assert not importance[:, 5].any() and np.isfinite(importance).all()


class Focal(nn.Module):
    """A criterion of one's own, without a reduction."""

    def forward(self, output, y):
        p = output.softmax(dim=1).gather(1, y[:, None])
        return (-((1 - p) ** 2) * p.log()).mean()


class Normalised(nn.Module):
    """A criterion with a state, which training changes and explanations must not."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False)

    def forward(self, output, y):
        return F.cross_entropy(self.norm(output), y)


def test_criteria_of_ones_own():
    check(classifier(criterion=Focal), LABELS, LABELS)
    net = classifier(criterion=Normalised)
    state, training = copy.deepcopy(net.criterion_.state_dict()), net.criterion_.training
    found = TracInImportance(net, parameters="all").fit(X, LABELS).transform(X)
    assert net.criterion_.training == training
    assert all(torch.equal(v, state[k]) for k, v in net.criterion_.state_dict().items())
    net.criterion_.eval()
    gradients = obvious(net, X, LABELS)
    np.testing.assert_allclose(found, net.lr * gradients @ gradients.T, rtol=1e-3, atol=1e-6)


# -- code of one's own


class Sparse(NeuralNet):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return super().get_loss(y_pred[0], y_true) + 10 * y_pred[1].abs().mean()


class Elbo(NeuralNet):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        mean, log_variance = y_pred["mean"], y_pred["log_variance"]
        error = F.mse_loss(y_pred["x"], X, reduction="sum")
        return (error - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()) / len(X)


class Penalised(NeuralNetClassifier):
    def get_loss(self, *args, **kwargs):
        penalty = sum(w.square().sum() for w in self.module_.parameters())
        return super().get_loss(*args, **kwargs) + 0.1 * penalty


class Scaled(NeuralNetClassifier):
    def infer(self, x, **params):
        return super().infer(3 * x, **params)


@pytest.mark.parametrize("y", [None, LABELS, X], ids=["without y", "labels to score by", "X"])
def test_get_loss_of_ones_own(y):
    check(make(Sparse, WithCode, X, criterion=nn.MSELoss), y, X)
    check(make(Elbo, Variational, X, criterion=nn.MSELoss, lr=0.01), y, X)


def test_other_code_of_ones_own():
    check(classifier(Penalised), LABELS, LABELS)
    check(classifier(Scaled), LABELS, LABELS)
    net = classifier()

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return 2 * self.criterion_(y_pred, y_true)

    net.get_loss = types.MethodType(get_loss, net)
    check(net, LABELS, LABELS)


# Code that only predicts, or that calls skorch's.
@pytest.mark.parametrize(
    "method",
    [
        *("forward", "forward_iter", "evaluation_step", "validation_step", "predict_proba"),
        *("get_dataset", "get_iterator", "get_split_datasets", "infer", "get_loss"),
    ],
)
def test_code_that_leaves_the_loss_as_it_is(method):
    def same(self, *args, **kwargs):
        return getattr(NeuralNetClassifier, method)(self, *args, **kwargs)

    kind = type("Own", (NeuralNetClassifier,), {method: same})
    check(classifier(kind), LABELS, LABELS)


@pytest.mark.parametrize(
    "method", ["train_step_single", "train_step", "run_single_epoch", "fit_loop"]
)
@pytest.mark.parametrize("explainer", [TracInImportance, InfluenceImportance])
def test_training_of_ones_own_asks_for_a_loss(method, explainer):
    def same(self, *args, **kwargs):
        return getattr(NeuralNetClassifier, method)(self, *args, **kwargs)

    net = classifier(type("Own", (NeuralNetClassifier,), {method: same}))
    with pytest.raises(TypeError, match=rf"Own\.{method} is its own code.*; pass loss, a callable"):
        explainer(net, parameters="all").fit(X, LABELS)

    def loss(output, x, y):
        return F.cross_entropy(output, y, reduction="none")

    found = explainer(net, parameters="all", loss=loss).fit(X, LABELS)
    plain = explainer(classifier(), parameters="all").fit(X, LABELS)
    np.testing.assert_allclose(found.transform(X), plain.transform(X), rtol=1e-4, atol=1e-6)
    net = classifier()
    setattr(net, method, types.MethodType(same, net))
    with pytest.raises(TypeError, match=rf"NeuralNetClassifier\.{method} is its own code"):
        explainer(net, parameters="all").fit(X, LABELS)


class Shifted(Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return X + 1, y


def flipped(items):
    x = torch.stack([torch.as_tensor(x) for x, _ in items])
    return -x, torch.as_tensor([y for _, y in items])


class Augmented(NeuralNetClassifier):
    def get_split_datasets(self, X, y=None, **params):
        return Dataset(2 * X, y), None


@pytest.mark.parametrize(
    ("make_net", "what"),
    [
        (lambda: classifier(dataset=Shifted), "NeuralNetClassifier.dataset .its own code"),
        (
            lambda: classifier(iterator_train__collate_fn=flipped),
            "trained on what its own iterator_train__collate_fn makes",
        ),
        (
            lambda: classifier(iterator_train__sampler=WeightedRandomSampler(range(1, 41), 40)),
            "trained on what its own iterator_train__sampler makes",
        ),
        (lambda: classifier(Augmented), "trained on what its own get_split_datasets makes"),
    ],
    ids=["dataset", "collate", "sampler", "split"],
)
def test_nets_that_are_trained_on_something_else(make_net, what):
    with pytest.raises(TypeError, match=f"{what}.* loss"):
        TracInImportance(make_net(), parameters="all").fit(X, LABELS)


def test_data_of_ones_own_that_are_the_same():
    check(classifier(dataset=type("Same", (Dataset,), {})), LABELS, LABELS)
    sampler = SubsetRandomSampler(range(40))
    check(classifier(iterator_train__sampler=sampler), LABELS, LABELS)


class Pairs(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return torch.cdist(y_pred, y_pred).sum() + super().get_loss(y_pred, y_true)


class Drawing(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return super().get_loss(y_pred + torch.randn_like(y_pred), y_true)


class Holding(NeuralNetClassifier):
    """Whose criterion looks at the network's weights."""

    def initialize_criterion(self):
        super().initialize_criterion()
        self.criterion_.tied = self.module_.out.weight
        return self


def trimmed():
    net = classifier()
    net.trim_for_prediction()
    return net


@pytest.mark.parametrize(
    ("make_net", "y", "message"),
    [
        (lambda: classifier(Pairs), LABELS, "neither the mean nor the sum of those of its samples"),
        (lambda: classifier(Drawing), LABELS, "the loss of Drawing draws random numbers"),
        (classifier, None, r"was trained on labels, .*; call fit\(X, y\)"),
        (classifier, np.array(list("abc"))[LABELS], r"y has dtype <U1 .*LabelEncoder"),
        (classifier, NUMBERS, r"does not take y of shape \(40, 2\)"),
        (
            lambda: make(NeuralNetRegressor, Net(1), NUMBERS[:, :1]),
            NUMBERS[:, 0],
            r"spreads targets of shape \(n\) over outputs of shape \(n, 1\); call fit\(X, y\)",
        ),
        (
            lambda: make(NeuralNetRegressor, Net(2), NUMBERS),
            None,
            r"no reconstruction.*; call fit\(X, y\)",
        ),
        (
            lambda: make(NeuralNet, Net(4), LABELS, criterion=nn.CrossEntropyLoss),
            None,
            r"labels or probabilities, not X; call fit\(X, y\)",
        ),
        (lambda: classifier(Holding), LABELS, "holds weights of its network"),
        (trimmed, LABELS, "no criterion any more"),
    ],
    ids=[
        *("pairs", "draws", "no labels", "text", "other y", "broadcast", "no targets", "labels"),
        *("tied", "trimmed"),
    ],
)
def test_losses_that_are_not_known(make_net, y, message):
    with pytest.raises(TypeError, match=rf"{message}.*pass loss, a callable\(output, x\)"):
        TracInImportance(make_net(), parameters="all").fit(X, y)


def test_weights_that_no_gradient_is_seen_of():
    net = classifier()
    penalty = sum(w.square().sum() for w in net.module_.parameters())

    def get_loss(y_pred, y_true, X=None, training=False):
        return F.cross_entropy(y_pred, y_true) + penalty

    net.get_loss = get_loss
    with pytest.raises(TypeError, match="a view of it is run.*pass a loss without them"):
        TracInImportance(net, parameters="all").fit(X, LABELS)
    module = Net(4)

    def loss(output, x):
        return (output - x).square().mean(dim=1) + module.out.weight.abs().sum()

    with pytest.raises(TypeError, match="a view of it is run"):
        TracInImportance(module, parameters="all", loss=loss).fit(X)


def test_code_that_branches_is_run_one_by_one():
    class Branching(NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, X=None, training=False):
            loss = super().get_loss(y_pred, y_true)
            return loss if len(y_pred) > 1 or loss.item() > 0 else -loss

    assert check(classifier(Branching), LABELS, LABELS)._loss_plan.source == "samples"
    assert check(classifier(criterion=Focal), LABELS, LABELS)._loss_plan.source == "vectorised"


def test_penalties_bend_the_loss_otherwise_than_gauss_newton():
    net = classifier(Penalised)
    with pytest.raises(TypeError, match="curvature='hessian', or pass loss without"):
        InfluenceImportance(net, parameters="all").fit(X, LABELS)
    params = {"parameters": ["out.bias"], "curvature": "hessian", "damping": 0.1}
    found = InfluenceImportance(net, **params).fit(X, LABELS).transform(X)
    probabilities = net.forward(X).softmax(dim=1).detach().numpy().astype(float)
    bent = np.diag(probabilities.mean(axis=0)) - probabilities.T @ probabilities / 40
    gradients = probabilities - np.eye(3)[LABELS]
    gradients += 0.2 * net.module_.out.bias.detach().numpy()
    inverse = np.linalg.inv(bent + (0.2 + 0.1) * np.eye(3))
    np.testing.assert_allclose(found, gradients @ inverse @ gradients.T / 40, rtol=1e-3, atol=1e-6)


# -- influence


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x)


def trained(weights, decay, start=None):
    """Minimise the weighted cross-entropy and half the squared weights, by Newton's method."""
    x, y = np.column_stack([X, np.ones(40)]).astype(float), np.eye(3)[LABELS]
    theta = np.zeros((3, 5)) if start is None else start
    for _ in range(20 if start is None else 5):
        scores = np.exp(x @ theta.T)
        p = scores / scores.sum(axis=1, keepdims=True)
        slope = (weights[:, None] * (p - y)).T @ x + decay * theta
        bent = np.einsum("n,nj,jk->njk", weights, p, np.eye(3)) - np.einsum(
            "n,nj,nk->njk", weights, p, p
        )
        hessian = np.einsum("njk,na,nb->jakb", bent, x, x).reshape(15, 15) + decay * np.eye(15)
        theta = theta - np.linalg.solve(hessian, slope.ravel()).reshape(3, 5)
    return theta


@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_cross_entropy_of_examples_left_out(weight):
    decay = 0.05
    net = NeuralNetClassifier(
        Linear,
        criterion=nn.CrossEntropyLoss,
        criterion__weight=weight,
        optimizer__weight_decay=decay,
    ).initialize()
    net.module_.double()
    net.criterion_.double()
    weights = np.ones(40) if weight is None else weight.numpy()[LABELS].astype(float)
    total = weights.sum()
    weights /= total
    best = trained(weights, decay)
    with torch.no_grad():
        net.module_.linear.weight.copy_(torch.as_tensor(best[:, :4]))
        net.module_.linear.bias.copy_(torch.as_tensor(best[:, 4]))
    influence = InfluenceImportance(FrozenEstimator(net), parameters="all", damping=1e-6)
    query, labels = QUERY.astype(float), np.arange(9) % 3
    found = influence.fit(X.astype(float), LABELS).transform(query, labels)
    of_query = np.ones(9) if weight is None else weight.numpy()[labels] * 40 / total

    def losses(theta):
        scores = np.column_stack([query, np.ones(9)]) @ theta.T
        return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(9), labels]

    def change(share):
        """Losses after training with a share of each example left out, minus those before."""
        columns = []
        for i in range(40):
            rest = weights.copy()
            rest[i] *= 1 - share
            columns.append(losses(trained(rest, decay, best)) - losses(best))
        return of_query[:, None] * np.stack(columns, axis=1)

    assert np.corrcoef(found.ravel(), change(1.0).ravel())[0, 1] > 0.98
    np.testing.assert_allclose(found, change(0.01) / 0.01, rtol=0.03, atol=1e-4)


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_influence_of_a_linear_classifier(curvature, solver):
    net = make(NeuralNetClassifier, Linear, LABELS, criterion=nn.CrossEntropyLoss)
    params = {"damping": 0.1, "tol": 1e-8, "solver": solver, "curvature": curvature}
    influence = InfluenceImportance(net, parameters="all", **params).fit(X, LABELS)
    gradients = obvious(net, X, LABELS).astype(float)
    x = np.column_stack([X, np.ones(40)])
    probabilities = net.forward(X).softmax(dim=1).detach().numpy().astype(float)
    matrix = np.zeros((15, 15))
    for row, p in zip(x, probabilities, strict=True):
        matrix += np.kron(np.diag(p) - np.outer(p, p), np.outer(row, row)) / 40
    # Parameters are the weights row by row, then the biases.
    order = [5 * j + i for j in range(3) for i in range(4)] + [5 * j + 4 for j in range(3)]
    matrix = matrix[np.ix_(order, order)] + 0.1 * np.eye(15)
    expected = gradients @ np.linalg.solve(matrix, gradients.T) / 40
    np.testing.assert_allclose(influence.transform(X), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("make_net", "y"),
    [
        (lambda: make(NeuralNetBinaryClassifier, Net(1), BINARY), BINARY),
        (lambda: make(Elbo, Variational, X, criterion=nn.MSELoss, lr=0.01), None),
        (lambda: make(Sparse, WithCode, X, criterion=nn.MSELoss), None),
        (lambda: classifier(criterion=Focal), LABELS),
        (lambda: classifier(Scaled), LABELS),
    ],
    ids=["one output", "dict", "tuple", "one by one", "infer"],
)
def test_influence_by_rows_is_that_by_products(make_net, y):
    net = make_net()
    params = {"parameters": "all", "damping": 0.1, "tol": 1e-7}
    few, y = X[:12], y if y is None else y[:12]
    exact = InfluenceImportance(net, solver="exact", **params).fit(few, y)
    assert exact.residual_ < 1e-4
    found = exact.transform(few[:3])
    products = InfluenceImportance(net, solver="cg", **params).fit(few, y).transform(few[:3])
    np.testing.assert_allclose(products, found, rtol=1e-3, atol=1e-4 * np.abs(found).max())


def test_losses_without_second_derivatives():
    net = classifier(criterion=nn.MultiMarginLoss)
    with pytest.raises(TypeError, match="no second derivatives.*TracInImportance"):
        InfluenceImportance(net, parameters="all").fit(X, LABELS)


# -- losses with y, and y of samples


def cross_entropy(output, x, y):
    return F.cross_entropy(output, y, reduction="none")


def test_losses_that_take_y():
    net = classifier()
    expected = check(net, LABELS, LABELS).transform(X)
    check(net, LABELS, LABELS, loss=cross_entropy)
    module = TracInImportance(net.module_, parameters="all", loss=cross_entropy).fit(X, LABELS)
    np.testing.assert_allclose(net.lr * module.transform(X), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"takes \(output, x, y\), but fit was given no y"):
        TracInImportance(net, parameters="all", loss=cross_entropy).fit(X)

    def optional(output, x, y=None):
        return cross_entropy(output, x, y)

    check(net, LABELS, LABELS, loss=optional)

    def without(output, x, scale=2.0):
        return scale * output.square().sum(dim=1)

    assert TracInImportance(net, parameters="all", loss=without).fit(X)._targets is None


@pytest.mark.parametrize("explainer", [TracInImportance, InfluenceImportance])
def test_y_of_samples(explainer):
    net = classifier()
    fitted = explainer(net, parameters="all").fit(X, LABELS)
    predicted = net.predict(QUERY)
    other = (predicted + 1) % 3
    np.testing.assert_array_equal(fitted.transform(QUERY), fitted.transform(QUERY, predicted))
    assert not np.allclose(fitted.transform(QUERY), fitted.transform(QUERY, other))
    # Training examples have their own, one by one too.
    assert (net.predict(X) != LABELS).any()
    whole = fitted.transform(X)
    np.testing.assert_array_equal(whole, fitted.transform(X, LABELS))
    np.testing.assert_allclose(fitted.transform(X[3:5]), whole[3:5], rtol=1e-4, atol=1e-7)
    left_out = explainer(net, parameters="all").fit_transform(X, LABELS)
    np.fill_diagonal(whole, np.inf)
    np.fill_diagonal(whole, whole.min(axis=1))
    np.testing.assert_allclose(left_out, whole, rtol=1e-4, atol=1e-7)
    # Other public methods agree.
    diagonal = fitted.transform(X).diagonal()
    np.testing.assert_allclose(fitted.self_influence(X), diagonal, rtol=1e-4, atol=1e-7)
    importance, _ = fitted.top_examples(QUERY, 3, y=other)
    best = -np.sort(-fitted.transform(QUERY, other), axis=1)[:, :3]
    np.testing.assert_allclose(importance, best, rtol=1e-4, atol=1e-7)
    assert -1 <= fitted.score(QUERY, predicted) <= 1
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(QUERY), fitted.transform(QUERY))


def test_examples_that_are_equal_but_for_y():
    twice, labels = np.vstack([X, X[:1]]), np.append(LABELS, (LABELS[0] + 1) % 3)
    net = classifier()
    fitted = TracInImportance(net, parameters="all").fit(twice, labels)
    predicted = net.predict(X[:1])
    np.testing.assert_array_equal(fitted.transform(X[:1]), fitted.transform(X[:1], predicted))
    importance, _ = fitted.top_examples(twice, 1, exclude_self=True)
    own = fitted.transform(twice, labels)
    np.fill_diagonal(own, -np.inf)
    np.testing.assert_allclose(importance[:, 0], own.max(axis=1), rtol=1e-4, atol=1e-7)


def test_examples_are_known_whatever_the_sign_of_their_zeros():
    net = classifier()
    zeros = X.copy()
    zeros[:, 1] = 0
    fitted = TracInImportance(net, parameters="all").fit(zeros, LABELS)
    assert (net.predict(zeros) != LABELS).any()
    others = zeros.copy()
    others[:, 1] = -0.0
    np.testing.assert_array_equal(fitted.transform(others), fitted.transform(zeros, LABELS))


def test_binary_classes_are_predicted():
    net = make(NeuralNetBinaryClassifier, Net(1), BINARY, threshold=0.6)
    fitted = TracInImportance(net, parameters="all").fit(X, BINARY)
    expected = fitted.transform(QUERY, net.predict(QUERY))
    np.testing.assert_array_equal(fitted.transform(QUERY), expected)


def test_numbers_are_not_predicted():
    net = make(NeuralNetRegressor, Net(2), NUMBERS)
    fitted = TracInImportance(net, parameters="all").fit(X, NUMBERS)
    np.testing.assert_array_equal(fitted.transform(X), fitted.transform(X, NUMBERS))
    assert fitted.transform(QUERY, NUMBERS[:9]).shape == (9, 40)
    assert -1 <= fitted.score(QUERY, NUMBERS[:9]) <= 1
    for call in (fitted.transform, fitted.self_influence, fitted.score):
        with pytest.raises(ValueError, match=r"the loss takes y, .*transform\(X, y\)"):
            call(QUERY)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        fitted.transform(QUERY, NUMBERS)
    with pytest.raises(ValueError, match=r"y has shape \(n\), .*fitted with y of shape \(n, 2\)"):
        fitted.transform(QUERY, NUMBERS[:9, 0])


def test_y_is_ignored_by_losses_without():
    net = make(NeuralNetRegressor, Reconstructor, X)
    fitted = TracInImportance(net).fit(X, LABELS)
    expected = fitted.transform(QUERY)
    np.testing.assert_array_equal(fitted.transform(QUERY, LABELS[:9]), expected)
    module = TracInImportance(net.module_).fit(X, LABELS)
    np.testing.assert_array_equal(net.lr * module.transform(QUERY), expected)


# -- nets in other states


def test_pipelines_and_unfitted_nets():
    net = NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None
    )
    assert TracInImportance(net, parameters="all").fit(X.astype(float), LABELS).transform(
        QUERY
    ).shape == (9, 40)
    scaler = StandardScaler().fit(X)
    fitted = classifier()
    pipeline = TracInImportance(make_pipeline(scaler, fitted), parameters="all").fit(X, LABELS)
    alone = TracInImportance(fitted, parameters="all").fit(scaler.transform(X), LABELS)
    expected = alone.transform(scaler.transform(QUERY))
    np.testing.assert_allclose(pipeline.transform(QUERY), expected, rtol=1e-4, atol=1e-6)


def test_nothing_of_the_net_is_changed():
    net = classifier(Penalised)
    before = pickle.dumps(net)
    state = torch.get_rng_state()
    influence = InfluenceImportance(net, parameters="all", curvature="hessian", damping=1.0)
    influence.fit(X, LABELS).transform(QUERY)
    assert pickle.dumps(net) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_frozen_parameters_are_taken_like_others():
    net = classifier()
    expected = TracInImportance(net, parameters="all").fit(X, LABELS)
    influence = InfluenceImportance(net, parameters="all").fit(X, LABELS)
    frozen = copy.deepcopy(net)
    frozen.module_.encoder.requires_grad_(False)
    for explainer, all_of_them in (
        (TracInImportance, expected),
        (InfluenceImportance, influence),
    ):
        found = explainer(frozen, parameters="all").fit(X, LABELS)
        assert found.parameters_ == all_of_them.parameters_
        np.testing.assert_allclose(found.transform(X), all_of_them.transform(X), rtol=1e-5)
        assert explainer(frozen).fit(X, LABELS).parameters_ == ["encoder.weight", "encoder.bias"]
    trainable = [name for name, p in frozen.module_.named_parameters() if p.requires_grad]
    assert trainable == ["out.weight", "out.bias"]
    few = TracInImportance(frozen, parameters=trainable).fit(X, LABELS).transform(X)
    rest = TracInImportance(frozen).fit(X, LABELS).transform(X)
    np.testing.assert_allclose(few + rest, expected.transform(X), rtol=1e-4, atol=1e-6)
    assert [p.requires_grad for p in frozen.module_.parameters()] == [False, False, True, True]


@pytest.mark.parametrize("explainer", [TracInImportance, InfluenceImportance])
def test_new_targets_beside_counts_are_not_cut_to_whole_numbers(explainer):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)).astype("float32"), rng.poisson(2, size=(60, 1))
    options = {"criterion": nn.MSELoss, "max_epochs": 2, "verbose": 0, "train_split": None}
    net = NeuralNetRegressor(nn.Linear(4, 1), **options).fit(X, y.astype("float32"))
    ours, theirs = (explainer(net, parameters="all").fit(X, t) for t in (y, y.astype("float32")))
    new = np.array([[0.5], [0.9], [-0.9], [2.0]])
    found = ours.transform(X[:4] + 1, new)
    np.testing.assert_allclose(found, theirs.transform(X[:4] + 1, new), rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[0], found[1])
    whole = ours.transform(X[:2] + 1, np.array([[1.0], [2.0]]))  # integers in all but dtype
    np.testing.assert_allclose(whole, ours.transform(X[:2] + 1, np.array([[1], [2]])), rtol=1e-5)


@pytest.mark.parametrize("labels", [np.int64, np.float32])
def test_a_fraction_is_no_class(labels):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)).astype("float32"), np.arange(60) % 3
    options = {"criterion": nn.CrossEntropyLoss, "max_epochs": 1, "verbose": 0}
    net = NeuralNetClassifier(nn.Linear(4, 3), train_split=None, **options).fit(X, y)
    importance = TracInImportance(net, parameters="all").fit(X, y.astype(labels))
    with pytest.raises(ValueError, match="y of sample 1 is 0.5.*int64.*classes"):
        importance.transform(X[:2] + 1, np.array([1.0, 0.5]))
    as_floats = importance.transform(X[:2] + 1, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(as_floats, importance.transform(X[:2] + 1, np.array([1, 2])))


class Known(nn.Module):
    """Mean squared error of the targets that are known in a batch, which -99 says are not."""

    def forward(self, output, y):
        known = y != -99
        return (output - torch.where(known, y, output)).square().sum() / known.sum()


class KnownOfMany(Known):
    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, output, y):
        squares = (output - torch.where(y != -99, y, output)).square()
        return squares if self.reduction == "none" else super().forward(output, y)


def _with_gaps(criterion, n_gaps):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)).astype("float32"), rng.normal(size=(60, 6)).astype("float32")
    X[-n_gaps:] *= 0.3
    y[-n_gaps:, 2:] = -99
    options = {"criterion": criterion, "max_epochs": 1, "verbose": 0, "train_split": None}
    return NeuralNetRegressor(nn.Linear(4, 6), **options).fit(X, y), X, y


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("n_gaps", [1, 30])
def test_losses_that_divide_by_known_targets_are_refused_in_any_order(step, n_gaps):
    net, X, y = _with_gaps(Known, n_gaps)
    with pytest.raises(TypeError, match="neither the mean nor the sum of those of its samples"):
        InfluenceImportance(net, parameters="all").fit(X[::step].copy(), y[::step].copy())


@pytest.mark.parametrize("step", [1, -1])
def test_criteria_that_divide_by_known_targets_mean_what_the_net_minimised(step):
    net, X, y = _with_gaps(KnownOfMany, 30)
    X, y = X[::step].copy(), y[::step].copy()
    importance = InfluenceImportance(net, parameters="all").fit(X, y)
    with importance._representation.session():
        network = importance._network()
        values = importance._losses(network)(network.tensor(importance._examples))
    whole = net.get_loss(net.forward(X), torch.tensor(y))
    np.testing.assert_allclose(values.mean().item(), whole.item(), rtol=1e-4)
