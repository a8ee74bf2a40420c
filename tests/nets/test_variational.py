"""The variational autoencoder: its objective against closed forms and loops."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import PredefinedSplit
from torch import distributions, nn
from torch.nn import functional as F

from sklexplain import AnomalyAttributor, EmbeddingAttributor, LabelFreeAttributor
from sklexplain.datasets import make_relevant_columns
from sklexplain.nets import VariationalAutoencoder, build_variational
from sklexplain.nets._lstm import LSTMAutoencoder
from sklexplain.nets._modules import MLPAutoencoder
from sklexplain.training import antithetic, kl_divergence, log_likelihood, total_correlation
from sklexplain.utils import draw_seed, seeded

X, _, _ = make_relevant_columns(60, random_state=0)  # (60, 10), two factors
SHARES = stats.rankdata(X, axis=0) / 61  # in (0, 1)


def quick(module="mlp", **params):
    """Make one that trains in a few milliseconds."""
    defaults = {
        "n_components": 2,
        "hidden_layer_sizes": (8,),
        "max_epochs": 2,
        "validation_split": None,
        "random_state": 0,
    }
    return VariationalAutoencoder(module, **(defaults | params))


# -- terms of the objective


@pytest.fixture
def posterior():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance, code = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
    return mean, log_variance, code


def test_divergence_equals_torchs(posterior):
    mean, log_variance, _ = posterior
    q = distributions.Normal(mean, (log_variance / 2).exp())
    expected = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_likelihoods_equal_torchs(posterior):
    raw, x, _ = posterior
    variance = torch.tensor(0.3, dtype=torch.float64)
    expected = distributions.Normal(raw, variance.sqrt()).log_prob(x).sum(dim=1)
    torch.testing.assert_close(log_likelihood(raw, x, variance), expected)
    x = (x > 0).double()
    expected = distributions.Bernoulli(logits=raw).log_prob(x).sum(dim=1)
    torch.testing.assert_close(log_likelihood(raw, x), expected)


def test_total_correlation_equals_a_loop(posterior):
    mean, log_variance, code = posterior
    n, d = mean.shape
    n_train, total = 50, 0.0
    for i in range(n):
        density = np.empty((n, d))
        for j in range(n):
            for k in range(d):
                scale = math.exp(log_variance[j, k].item() / 2)
                density[j, k] = stats.norm.pdf(code[i, k].item(), mean[j, k].item(), scale)
        joint = density.prod(axis=1).sum() / (n_train * n)
        marginals = density.sum(axis=0) / (n_train * n)
        total += math.log(joint) - sum(math.log(m) for m in marginals)
    value = total_correlation(code, mean, log_variance, n_train)
    np.testing.assert_allclose(value.item(), total / n, rtol=1e-10)


def test_antithetic_draws():
    draws = antithetic(7, 3, seed=0)
    assert draws.shape == (7, 3)
    torch.testing.assert_close(draws[4:], -draws[:3])


def _probabilistic_pca(module, pca):
    """Set a linear module to the maximum-likelihood solution, whose posterior it then has."""
    scale = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    weights = pca.components_.T * scale  # (n_features, n_components)
    m = scale**2 + pca.noise_variance_
    with torch.no_grad():
        encoder, decoder = module.encoder.code, module.decoder.output
        encoder.weight.copy_(torch.from_numpy(weights.T / m[:, None]))
        encoder.bias.copy_(-encoder.weight @ torch.from_numpy(pca.mean_))
        decoder.weight.copy_(torch.from_numpy(weights))
        decoder.bias.copy_(torch.from_numpy(pca.mean_))
        module.log_variance.weight.zero_()
        module.log_variance.bias.copy_(torch.from_numpy(np.log(pca.noise_variance_ / m)))
        module.noise_variance.fill_(pca.noise_variance_)


def test_bound_is_the_likelihood_where_the_posterior_is_exact():
    module = build_variational(
        MLPAutoencoder, input_shape=(10,), n_components=2, hidden_layer_sizes=()
    ).double()
    pca = PCA(2).fit(X)
    _probabilistic_pca(module, pca)
    x = torch.from_numpy(X)
    noise = antithetic(1000, 2, seed=0).double()
    with torch.no_grad():
        each = torch.stack([module.elbo(x, e[None]) for e in noise[:200]])
        bound = module.elbo(x, noise)
    error = each.std(dim=0).max().item() / math.sqrt(len(noise))
    np.testing.assert_allclose(bound.numpy(), pca.score_samples(X), atol=5 * error)
    # Any other posterior has a smaller one.
    with torch.no_grad():
        module.log_variance.bias += 0.5
        assert (module.elbo(x, noise) < bound).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_score_equals_a_loop(likelihood):
    data = SHARES if likelihood == "bernoulli" else X
    estimator = quick(beta=3.0, likelihood=likelihood).fit(data)
    module = copy.deepcopy(estimator.net_.module_).double()
    total = 0.0
    for row in torch.from_numpy(data.astype(np.float32)).double()[:, None]:
        mean, log_variance = module.posterior(row)
        q = distributions.Normal(mean, (log_variance / 2).exp())
        for e in antithetic(16, 2, seed=0):
            raw = module.decoder(mean + q.stddev * e)
            if likelihood == "gaussian":
                fit = distributions.Normal(raw, module.noise_variance.sqrt()).log_prob(row)
            else:
                fit = row * F.logsigmoid(raw) + (1 - row) * F.logsigmoid(-raw)
            total += fit.sum().item() / 16
        total -= distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum().item()
    np.testing.assert_allclose(estimator.score(data), total / len(X), rtol=1e-5)
    assert estimator.set_params(beta=7.0).score(data) == estimator.score(data)
    np.testing.assert_allclose(estimator.score_samples(data).mean(), total / len(X), rtol=1e-5)


# -- training is what it says


def _reference_epoch(estimator, X):
    """One epoch of SGD written out, in float64, for an MLP with one hidden layer."""
    module = copy.deepcopy(estimator.initialize(X).net_.module_).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=estimator.lr)
    generator = torch.Generator().manual_seed(draw_seed(estimator.random_state))
    variance = module.noise_variance.clone()
    for start in range(0, len(X), estimator.batch_size):
        x = torch.from_numpy(X[start : start + estimator.batch_size]).double()
        hidden = F.relu(module.encoder.linear0(x))
        mean, log_variance = module.encoder.code(hidden), module.log_variance(hidden)
        noise = torch.randn(mean.shape, generator=generator).double()
        q = distributions.Normal(mean, (log_variance / 2).exp())
        code = mean + q.stddev * noise
        raw = module.decoder(code)
        if estimator.likelihood == "gaussian":
            fit = distributions.Normal(raw, variance.sqrt()).log_prob(x).sum(dim=1).mean()
            variance = 0.9 * variance + 0.1 * (raw - x).square().mean().detach()
        else:
            fit = (x * F.logsigmoid(raw) + (1 - x) * F.logsigmoid(-raw)).sum(dim=1).mean()
        divergence = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum(1).mean()
        loss = estimator.beta * divergence - fit
        if estimator.total_correlation:
            correlation = total_correlation(code, mean, log_variance, len(X))
            loss = divergence - fit + (estimator.beta - 1) * correlation
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.state_dict() | {"noise_variance": variance}


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("total_correlation", [False, True])
def test_one_epoch_equals_plain_torch(likelihood, total_correlation):
    data = (SHARES if likelihood == "bernoulli" else X).astype(np.float32)
    estimator = quick(
        beta=2.5,
        total_correlation=total_correlation,
        likelihood=likelihood,
        max_epochs=1,
        batch_size=16,
        lr=1e-3,
        net_params={"optimizer": torch.optim.SGD, "iterator_train__shuffle": False},
    )
    expected = _reference_epoch(estimator, data)
    trained = estimator.fit(data).net_.module_.state_dict()
    assert trained.keys() == expected.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(weight.double(), expected[name], atol=1e-5, rtol=1e-4)


def test_weights_that_change_nothing_leave_the_bits():
    plain = quick().fit(X).transform(X)
    for params in (
        {"beta": 1.0, "total_correlation": True},
        {"lambda_noise": 0.0, "lambda_variance": 0.0, "score_every": 1, "n_score_samples": 3},
    ):
        np.testing.assert_array_equal(quick(**params).fit(X).transform(X), plain)
    constrained = quick(activation="softplus", lambda_noise=1.0, score_every=1).fit(X)
    free = quick(activation="softplus").fit(X)
    assert np.abs(constrained.transform(X) - free.transform(X)).max() > 1e-5
    assert 0 < constrained.net_.history[0, "noise_score"] < 1


def test_larger_betas_leave_less_in_the_code():
    units = []
    for beta in (1.0, 100.0):
        vae = quick(beta=beta, hidden_layer_sizes=(), lr=0.02, max_epochs=60).fit(X)
        with torch.no_grad():
            posterior = vae.net_.module_.posterior(torch.from_numpy(X).float())
        units.append(kl_divergence(*posterior).mean().item())
    assert units[1] < 0.1 < 1 < units[0]


def test_learned_variance_is_that_of_the_noise():
    vae = quick(hidden_layer_sizes=(), lr=0.02, max_epochs=150).fit(X)
    pca = PCA(2).fit(X)
    learned = vae.net_.module_.noise_variance.item()
    np.testing.assert_allclose(learned, pca.noise_variance_, rtol=0.15)
    best = pca.score(X)
    assert best - 0.3 < vae.score(X) < best + 0.1


@pytest.mark.parametrize(
    "other",
    [
        {"beta": 2.0},
        {"beta": 2.0, "total_correlation": True},
        {"likelihood": "bernoulli"},
        {"random_state": 1},
        {"hidden_layer_sizes": (9,)},
    ],
)
def test_every_parameter_matters(other):
    first = {"beta": 2.0} if "total_correlation" in other else {}
    one, two = (quick(**p).fit(SHARES).transform(SHARES) for p in (first, other))
    assert np.abs(one - two).max() > 1e-5


def test_early_stopping_of_negative_losses():
    # In units of which the density is large, the loss is negative.
    fold = np.r_[np.full(20, -1), np.zeros(40)].astype(int)
    vae = quick(
        hidden_layer_sizes=(64,),
        lr=0.01,
        max_epochs=400,
        patience=6,
        validation_split=PredefinedSplit(fold),
    ).fit(X / 10)
    curve = vae.validation_loss_curve_
    best = len(curve) - 1 - 6
    assert vae.n_epochs_ < 400 and curve[best] < 0
    assert curve[best] < min(curve[:best]) and min(curve[best + 1 :]) > curve[best] - 0.01


def test_validation_draws_are_the_same_in_every_epoch():
    vae = quick(lr=1e-12, max_epochs=3, patience=5, validation_split=0.3, likelihood="bernoulli")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        vae.fit(SHARES)
    np.testing.assert_allclose(np.diff(vae.validation_loss_curve_), 0, atol=1e-4)
    assert np.abs(np.diff(vae.loss_curve_)).min() > 1e-4


# -- codes and samples


def test_transform_is_the_posterior_mean():
    vae = quick().fit(X)
    with torch.no_grad():
        mean, _ = vae.net_.module_.posterior(torch.from_numpy(X).float())
    np.testing.assert_allclose(vae.transform(X), mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(vae.transform(X), vae.transform(X))
    module, method = vae._torch_form()
    assert method == "encode" and module.train().encode(torch.ones(1, 10)).shape == (1, 2)


def test_no_explainer_sees_a_draw():
    vae = quick().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = LabelFreeAttributor(vae, random_state=0).fit(X).transform(X[:3])
        EmbeddingAttributor(vae).fit(X).transform(X[:3])
        AnomalyAttributor(vae, random_state=0).fit(X).transform(X[:3])
        LabelFreeAttributor(vae.net_, random_state=0).fit(X.astype(np.float32))
    again = LabelFreeAttributor(vae, random_state=0).fit(X).transform(X[:3])
    np.testing.assert_array_equal(maps, again)


def test_samples():
    vae = quick(likelihood="bernoulli").fit(SHARES)
    drawn = vae.sample(5)
    assert drawn.shape == (5, 10) and drawn.dtype == np.float32
    assert 0 < drawn.min() and drawn.max() < 1
    np.testing.assert_array_equal(vae.sample(5), drawn)
    assert not np.array_equal(clone(vae).set_params(random_state=None).fit(SHARES).sample(5), drawn)
    with pytest.raises(ValueError, match="n_samples"):
        vae.sample(0)


def test_encoders_without_a_linear_end_are_given_one():
    with seeded(0):
        module = build_variational(
            LSTMAutoencoder, input_shape=(9,), n_components=3, hidden_layer_sizes=()
        )
    assert isinstance(module.encoder.code, nn.Linear)
    with torch.no_grad():
        x = 10 * torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
        mean, log_variance = module.posterior(x)
        torch.testing.assert_close(mean, module.encode(x))
    assert mean.shape == log_variance.shape == (5, 3)


class OwnForward(nn.Sequential):
    """Scales what it is given before its layers see it."""

    def forward(self, x):
        return super().forward((x - 3) / 2)


def made_with(change, kind=nn.Sequential):
    """Return a class of modules whose encoder is changed after it is made."""

    class Own(nn.Module):
        def __init__(self, input_shape, n_components):
            super().__init__()
            self.encoder = kind(nn.Linear(*input_shape, 6), nn.ReLU(), nn.Linear(6, n_components))
            change(self.encoder)
            self.decoder = nn.Linear(n_components, *input_shape)

    return Own


def own_forward(encoder):
    encoder.forward = lambda x: nn.Sequential.forward(encoder, (x - 3) / 2)


CHANGES = {
    "a class": (lambda encoder: None, OwnForward),
    "an instance": (own_forward,),
    "a hook": (lambda e: e.register_forward_hook(lambda m, args, out: out / 2 + 1),),
    "a hook before": (lambda e: e.register_forward_pre_hook(lambda m, args: (args[0] / 2,)),),
}


@pytest.mark.parametrize("change", CHANGES)
def test_encoders_that_do_more_than_their_parts(change):
    vae = quick(made_with(*CHANGES[change])).fit(X)
    x = torch.from_numpy(X).float()
    with torch.no_grad():
        mean, _ = vae.net_.module_.posterior(x)
        features = vae.net_.module_.encoder.features(x)
        np.testing.assert_allclose(mean, vae.net_.module_.encoder.code(features), rtol=1e-6)
    np.testing.assert_allclose(vae.transform(X), mean, rtol=1e-5, atol=1e-6)


def test_a_subclass_without_a_forward_is_no_other_encoder():
    class Named(nn.Sequential):
        pass

    plain, named = (
        quick(made_with(lambda e: None, kind)).fit(X) for kind in (nn.Sequential, Named)
    )
    np.testing.assert_array_equal(plain.transform(X), named.transform(X))
    assert len(named.net_.module_.encoder) == 3


def test_hooks_that_come_later_count_in_both():
    vae = quick().fit(X)
    module, x = vae.net_.module_, torch.from_numpy(X).float()
    with torch.no_grad():
        before = module.posterior(x)
        handle = module.encoder.register_forward_hook(lambda m, args, out: 2 * out)
        after = module.posterior(x)
    np.testing.assert_allclose(after[0], 2 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_allclose(vae.transform(X), after[0], rtol=1e-5, atol=1e-6)
    handle.remove()
    with torch.no_grad():
        assert torch.equal(module.posterior(x)[0], before[0])
    module.encoder.forward = lambda x: x[:, :2]
    with pytest.raises(ValueError, match="does not run its last part"):
        module.posterior(x)


# -- errors


def test_bernoulli_needs_shares():
    with pytest.raises(ValueError, match=r"X in \[0, 1\], but X contains -.*MinMaxScaler"):
        quick(likelihood="bernoulli").fit(X)
    vae = quick(likelihood="bernoulli").fit(SHARES)
    vae.transform(SHARES + 1)  # the codes need no likelihood
    with pytest.raises(ValueError, match="X contains 1.9"):
        vae.score(SHARES + 1)


def test_a_constant_has_no_variance_to_begin_with():
    constant = np.ones((20, 3))
    vae = quick().fit(constant)
    assert np.isfinite(vae.score(constant))


def test_net_params_that_are_set_elsewhere():
    with pytest.raises(ValueError, match=r"'beta': set VariationalAutoencoder\(beta=...\)"):
        quick(net_params={"beta": 2.0}).fit(X)
    with pytest.raises(ValueError, match=r"'criterion': set .*likelihood="):
        quick(net_params={"criterion": nn.L1Loss}).fit(X)
