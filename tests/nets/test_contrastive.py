"""The contrastive encoder: its loss against a loop, its views, its loss of single samples."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklexplain import (
    DKNNImportance,
    InfluenceImportance,
    LabelFreeAttributor,
    NoiseScorer,
    TracInImportance,
)
from sklexplain.datasets import make_relevant_columns
from sklexplain.nets import (
    Autoencoder,
    CheckpointHistory,
    ContrastiveEncoder,
    VariationalAutoencoder,
)
from sklexplain.training import AUGMENTATIONS, ContrastiveNet, Views, nt_xent, rows_of
from sklexplain.utils import draw_seed

X, _, _ = make_relevant_columns(60, random_state=0)  # (60, 10), two factors


def quick(module="mlp", **params):
    """Make one that trains in a few milliseconds."""
    defaults = {
        "n_components": 2,
        "hidden_layer_sizes": (8,),
        "projection_dim": 4,
        "max_epochs": 2,
        "validation_split": None,
        "random_state": 0,
    }
    return ContrastiveEncoder(module, **(defaults | params))


def unit_vectors(n, d, seed):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z / z.norm(dim=1, keepdim=True)


def loop_nt_xent(one, two, temperature):
    """The loss of every view, written out."""
    views, n = [*one, *two], len(one)
    losses = []
    for i in range(2 * n):
        terms = [
            math.exp((views[i] @ views[j]).item() / temperature) for j in range(2 * n) if j != i
        ]
        partner = (i + n) % (2 * n)
        losses.append(-math.log(math.exp((views[i] @ views[partner]).item() / temperature)))
        losses[-1] += math.log(sum(terms))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_a_loop(temperature):
    one, two = unit_vectors(7, 3, 0), unit_vectors(7, 3, 1)
    expected = loop_nt_xent(one, two, temperature)
    np.testing.assert_allclose(nt_xent(one, two, temperature), expected, rtol=1e-10)
    parts = [nt_xent(one, two, temperature, slice(i, i + 4)) for i in range(0, 14, 4)]
    np.testing.assert_allclose(torch.cat(parts), expected, rtol=1e-10)
    assert nt_xent(one[:1], two[:1], temperature).tolist() == [0.0, 0.0]  # no one to confuse with


# -- views


def views_of(names, shape, axes, is_table=False, **strengths):
    views = Views(names, strengths, shape, axes, is_table)
    data = np.random.default_rng(0).normal(3, 2, size=(500, *shape)).astype(np.float32)
    views.learn(data)
    return views, torch.from_numpy(data)


def seeded_draws(views, n, seed=0):
    return views.draw(n, torch.Generator().manual_seed(seed))


SHAPES = {
    "table": ((6,), (0,), True),
    "series": ((2, 11), (1,), False),
    "lstm": ((11, 2), (0,), False),
    "one channel": ((11,), (0,), False),
    "image": ((3, 6, 5), (1, 2), False),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("kind", SHAPES)
def test_views_are_of_single_samples(name, kind):
    shape, axes, is_table = SHAPES[kind]
    views, x = views_of([name, "jitter"], shape, axes, is_table)
    x = x[:5]
    draws = seeded_draws(views, 5)
    made = views.view(x, draws)
    assert made.shape == x.shape and torch.isfinite(made).all()
    alone = [views.view(x[i : i + 1], rows_of(draws, [i])) for i in range(5)]
    torch.testing.assert_close(made, torch.cat(alone))
    # One draw for all is the same as that draw for each.
    shared = views.view(x, rows_of(draws, [2]))
    torch.testing.assert_close(shared, views.view(x, rows_of(draws, [2] * 5)))
    assert not torch.equal(made, views.view(x, seeded_draws(views, 5, seed=1)))
    torch.testing.assert_close(made, views.view(x, seeded_draws(views, 5)))


def test_corruption_replaces_a_share_by_values_of_the_column():
    views, x = views_of(["corruption"], (10,), (0,), True)
    made = views.view(x, seeded_draws(views, 500))
    changed = made != x
    assert changed.sum(dim=1).max() == 6 and changed.sum(dim=1).float().mean() > 5.9
    assert 0.5 < changed.float().mean(dim=0).min() and changed.float().mean(dim=0).max() < 0.7
    for column in range(10):
        new = made[changed[:, column], column]
        assert np.isin(new.numpy(), x[:, column].numpy()).all()
        # Drawn from the column's own distribution.
        assert stats.ks_2samp(new.numpy(), x[:, column].numpy()).pvalue > 0.01
    rate = views_of(["corruption"], (10,), (0,), True, corruption_rate=0.2)[0]
    assert ((rate.view(x, seeded_draws(rate, 500)) != x).sum(dim=1) <= 2).all()


def test_corruption_of_few_samples_keeps_all_values():
    views = Views(["corruption"], {}, (1,), (0,), True)
    views.learn(np.array([[1.0], [2.0], [4.0]], dtype=np.float32))
    values, counts = np.unique(views.values.numpy(), return_counts=True)
    assert values.tolist() == [1, 2, 4] and counts.max() - counts.min() <= 1


def test_jitter_and_scaling_have_their_sizes():
    views, x = views_of(["jitter"], (2, 11), (1,), jitter_std=0.3)
    noise = views.view(x, seeded_draws(views, 500)) - x
    np.testing.assert_allclose(noise.std(), 0.3 * x.std(dim=0).square().mean().sqrt(), rtol=0.03)
    views, x = views_of(["scaling"], (2, 11), (1,), scaling_std=0.3)
    factors = views.view(x, seeded_draws(views, 500)) / x
    torch.testing.assert_close(factors, factors[:, :, :1].expand(-1, -1, 11), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([factors.mean(), factors.std()], [1, 0.3], atol=0.03)


@pytest.mark.parametrize("kind", ["series", "lstm", "one channel"])
def test_crops_equal_numpys_interpolation(kind):
    shape, axes, _ = SHAPES[kind]
    views, x = views_of(["crop"], shape, axes)
    draws = seeded_draws(views, 500)
    made = views.view(x, draws)
    share, start = (d.double().numpy() for d in draws)
    assert 0.5 <= share.min() and share.max() <= 1
    for i in range(20):
        places = start[i] * (1 - share[i]) * 10 + share[i] * np.arange(11)
        series = np.moveaxis(x[i].numpy(), axes[0], -1).reshape(-1, 11)
        expected = np.stack([np.interp(places, np.arange(11), row) for row in series])
        found = np.moveaxis(made[i].numpy(), axes[0], -1).reshape(-1, 11)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_crop_of_a_plane_is_a_plane():
    views, _ = views_of(["crop"], (1, 6, 5), (1, 2))
    plane = (torch.arange(6.0)[:, None] * 3 + torch.arange(5.0) - 2)[None, None]
    made = views.view(plane, rows_of(seeded_draws(views, 1), [0]))[0, 0]
    slopes = made.diff(dim=0), made.diff(dim=1)
    for slope in slopes:
        torch.testing.assert_close(slope, slope[:1, :1].expand_as(slope), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(slopes[0][0, 0], 3 * slopes[1][0, 0], rtol=1e-4, atol=1e-4)


def test_masks_hide_one_part_of_all_channels():
    views, x = views_of(["mask"], (2, 11), (1,), mask_share=0.3)
    hidden = views.view(x, seeded_draws(views, 500)) != x
    assert (hidden.sum(dim=2) == 3).all() and torch.equal(hidden[:, 0], hidden[:, 1])
    assert (hidden[:, 0].float().diff(dim=1).abs().sum(dim=1) <= 2).all()
    assert hidden[:, 0].any(dim=0).all()  # each time step in some views
    values = views.view(x, seeded_draws(views, 500))[hidden].unique()
    torch.testing.assert_close(values, x.mean(dim=(0, 2)).sort().values, rtol=1e-4, atol=1e-4)
    views, x = views_of(["mask"], (3, 8, 4), (1, 2), mask_share=0.25)
    assert ((views.view(x, seeded_draws(views, 500)) != x).sum(dim=(1, 2, 3)) == 3 * 4 * 2).all()


def flipped(sample, generator):
    """A user's view: turned around, half of the time, and a little louder."""
    flip = torch.rand((), generator=generator) < 0.5
    return (sample.flip(-1) if flip else sample) * 1.1


def test_users_views():
    estimator = quick(augment=flipped, max_epochs=1).fit(X[:20])
    assert estimator.augment_ is flipped
    same = quick(augment=flipped, max_epochs=1).fit(X[:20])
    np.testing.assert_array_equal(estimator.transform(X), same.transform(X))
    loaded = pickle.loads(pickle.dumps(estimator))
    assert loaded.score(X[:20]) == estimator.score(X[:20]) < 0
    quick(augment=lambda x, g: x + torch.randn(10, generator=g), max_epochs=1).fit(X[:20])


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (lambda x, g: x[:3], ValueError, r"augment made \(n?,?.*3.*of a sample"),
        (lambda x, g: x.numpy(), TypeError, "augment returned ndarray"),
        (lambda x, g: x / 0, ValueError, "augment returned a view that is not finite"),
        ("corrupt", ValueError, "'augment' parameter .* Did you mean 'corruption'"),
        (["corruption", "jiter"], ValueError, "'augment' parameter"),
        ([], ValueError, "names of augmentations, not empty"),
    ],
)
def test_views_that_cannot_be(augment, error, message):
    with pytest.raises(error, match=message):
        quick(augment=augment).fit(X)


def test_strengths_that_cannot_be():
    with pytest.raises(ValueError, match="'jiter_std' is unknown. Did you mean 'jitter_std'"):
        quick(augment_params={"jiter_std": 1}).fit(X)
    with pytest.raises(ValueError, match=r"augment_params\['corruption_rate'\].*Got 2"):
        quick(augment_params={"corruption_rate": 2}).fit(X)


@pytest.mark.parametrize(
    ("module", "shape", "names"),
    [
        ("mlp", (12,), ("corruption",)),
        ("mlp", (3, 12), ("jitter", "scaling", "crop", "mask")),
        ("mlp", (2, 6, 6), ("crop", "jitter")),
        ("conv1d", (12,), ("jitter", "scaling", "crop", "mask")),
        ("conv2d", (6, 5), ("crop", "jitter")),
        ("lstm", (12, 3), ("jitter", "scaling", "crop", "mask")),
    ],
)
def test_views_follow_what_samples_are(module, shape, names):
    data = np.random.RandomState(0).standard_normal((30, *shape))
    estimator = quick(module, batch_size=16).fit(data)
    assert estimator.augment_ == names
    Z = estimator.transform(data)
    assert Z.shape == (30, 2) and Z.dtype == np.float32
    one_by_one = np.concatenate([estimator.transform(data[i : i + 1]) for i in range(30)])
    np.testing.assert_allclose(Z, one_by_one, rtol=1e-4, atol=1e-6)
    assert estimator.score(data) <= 0


# -- training is what it says


def test_one_epoch_equals_plain_torch():
    data = X.astype(np.float32)
    estimator = quick(
        max_epochs=1,
        batch_size=16,
        lr=0.1,
        temperature=0.3,
        net_params={"optimizer": torch.optim.SGD, "iterator_train__shuffle": False},
    )
    module = copy.deepcopy(estimator.initialize(data).net_.module_)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(draw_seed(0))
    for start in range(0, 60, 16):
        x = torch.from_numpy(data[start : start + 16])
        z = []
        for _ in range(2):
            seen = module.views.view(x, module.views.draw(len(x), generator))
            hidden = module.encoder.linear0(seen).relu()
            code = module.encoder.code(hidden)
            z.append(module.projector.output(module.projector.linear0(code).relu()))
        one, two = (each / each.norm(dim=1, keepdim=True) for each in z)
        views = torch.cat([one, two])
        similar = (views @ views.T / 0.3).exp() * (1 - torch.eye(2 * len(x)))
        pairs = ((one * two).sum(dim=1) / 0.3).repeat(2)
        loss = (similar.sum(dim=1).log() - pairs).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = estimator.fit(data).net_.module_.state_dict()
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(trained[name], weight, atol=1e-5, rtol=1e-4)


def test_it_learns_what_views_have_in_common():
    # Two groups of samples, told apart by the five columns that views keep.
    def keep(sample, generator):
        noise = 3 * torch.randn(5, generator=generator)
        return torch.cat([sample[:5], noise])

    rng = np.random.default_rng(0)
    group = rng.integers(2, size=80)
    data = np.hstack([rng.normal(3 * group[:, None], 1, (80, 5)), rng.normal(0, 3, (80, 5))])
    encoder = quick(augment=keep, max_epochs=20, lr=0.03, hidden_layer_sizes=()).fit(data)
    weights = encoder.net_.module_.encoder.code.weight.detach().abs().sum(dim=0)
    assert weights[:5].min() > weights[5:].max()


def test_validation_views_are_the_same_in_every_epoch():
    encoder = quick(lr=1e-12, max_epochs=3, patience=5, validation_split=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        encoder.fit(X)
    np.testing.assert_allclose(np.diff(encoder.validation_loss_curve_), 0, atol=1e-5)
    assert np.abs(np.diff(encoder.loss_curve_)).min() > 1e-4


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.1},
        {"projection_dim": 5},
        {"augment": "jitter"},
        {"augment_params": {"corruption_rate": 0.3}},
        {"batch_size": 20},
        {"random_state": 1},
    ],
)
def test_every_parameter_matters(other):
    one, two = (quick(**p).fit(X).transform(X) for p in ({}, other))
    assert np.abs(one - two).max() > 1e-5


def test_zero_weights_of_scores_leave_the_bits():
    plain = quick(activation="softplus").fit(X).transform(X)
    zero = quick(activation="softplus", lambda_noise=0.0, score_every=1).fit(X)
    np.testing.assert_array_equal(zero.transform(X), plain)
    scored = quick(activation="softplus", lambda_noise=1.0, score_every=1).fit(X)
    assert np.abs(scored.transform(X) - plain).max() > 1e-5
    assert 0 < scored.net_.history[0, "noise_score"] < 1


# -- its score


def test_score_depends_on_the_samples_only():
    encoder = quick().fit(X)
    score = encoder.score(X)
    assert encoder.score(X) == score
    np.testing.assert_allclose(encoder.score(X[::-1]), score, rtol=1e-6)
    np.testing.assert_allclose(encoder.set_params(batch_size=7).score(X), score, rtol=1e-6)
    with pytest.raises(ValueError, match="more than 1 sample"):
        encoder.score(X[:1])


@pytest.mark.parametrize(
    ("params", "n", "message"),
    [
        ({}, 1, "1 sample to train on"),
        ({"validation_split": 0.1}, 12, "validation_split=0.1 holds out 1 sample"),
        ({"batch_size": 1}, 60, "'batch_size' parameter of ContrastiveEncoder"),
        ({"net_params": {"batch_size": 1}}, 60, r"net_params\['batch_size'\]=1"),
    ],
)
def test_a_single_sample_cannot_be_told_apart(params, n, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(X[:n])


def test_score_equals_a_loop(monkeypatch):
    encoder = quick(temperature=0.2).fit(X)
    seen = []
    project = type(encoder.net_.module_).project

    def spy(module, x):
        seen.append(project(module, x))
        return seen[-1]

    monkeypatch.setattr(type(encoder.net_.module_), "project", spy)
    score = encoder.set_params(batch_size=100).score(X)
    losses = [
        loop_nt_xent(one.double(), two.double(), 0.2)
        for one, two in zip(seen[::2], seen[1::2], strict=True)
    ]
    assert len(losses) == 4
    np.testing.assert_allclose(score, -np.mean(losses), rtol=1e-6)


def test_searches():
    grid = {"temperature": [0.2, 0.5], "augment": ["jitter", "corruption"]}
    search = GridSearchCV(quick(max_epochs=1), grid, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_score_is_better_after_training():
    params = {"augment": "jitter", "temperature": 0.2}
    before, after = (quick(max_epochs=n, lr=0.01, **params).fit(X).score(X) for n in (1, 20))
    assert after > before + 0.1


# -- explanations


def test_the_projection_head_is_dropped():
    encoder = quick().fit(X)
    module, method = encoder._torch_form()
    assert method == "encode"
    expected = module.encoder(torch.from_numpy(X).float()).detach().numpy()
    np.testing.assert_allclose(encoder.transform(X), expected, rtol=1e-5, atol=1e-6)
    assert not hasattr(encoder, "inverse_transform")


def test_explainers_take_it():
    encoder = quick().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LabelFreeAttributor(encoder, random_state=0).fit(X).transform(X[:3])
        DKNNImportance(encoder).fit(X).transform(X[:3])
        NoiseScorer(encoder, random_state=0).fit(X).transform(X[:3])


def _pairs(module, seed, n_draws=8):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: module.views.draw(1, generator)  # noqa: E731
    return [(draw(), draw()) for _ in range(n_draws)]


def _stability(module, x, seed):
    losses = []
    for one, two in _pairs(module, seed):
        difference = module.project(module.views.view(x, one)) - module.project(
            module.views.view(x, two)
        )
        losses.append(difference.square().sum())
    return sum(losses) / len(losses)


def _bank_loss(module, x, corpus, seed, temperature, batch_size):
    """The expected NT-Xent of one sample, written out."""
    others = corpus[[i for i in range(len(corpus)) if not torch.equal(corpus[i], x[0])]]
    n_others = 2 * (min(len(corpus), batch_size) - 1)
    losses = []
    for draws in _pairs(module, seed):
        one, two = (module.project(module.views.view(x, draw))[0] for draw in draws)
        bank = torch.cat([module.project(module.views.view(others, draw)) for draw in draws])
        for view in (one, two):
            same = torch.exp(one @ two / temperature)
            pushed = n_others * torch.exp(bank @ view / temperature).mean()
            losses.append(-torch.log(same / (same + pushed)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("n_draws", [1, 3])
def test_losses_of_samples_are_in_the_mean_what_training_minimises(n_draws):
    # So that the curvature of their mean is that of the training loss.
    encoder = quick(batch_size=60, temperature=0.4, max_epochs=2).fit(X)
    module, x = encoder.net_.module_.double(), torch.from_numpy(X[:25]).double()
    objective = encoder.net_.sample_objective("nt_xent", n_draws, seed=3)
    objective.prepare(module, lambda: x)
    (draw,) = objective.draws(x)
    found = objective(objective.run(draw(x)), x, None).mean()
    expected = [
        nt_xent(*(module.project(module.views.view(x, d)) for d in draws), 0.4).mean()
        for draws in _pairs(module, 3, n_draws)
    ]
    torch.testing.assert_close(found, sum(expected) / n_draws, rtol=1e-10, atol=0)
    parameters = list(module.encoder.parameters())
    ours, theirs = (
        torch.autograd.grad(loss, parameters) for loss in (found, sum(expected) / n_draws)
    )
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("loss", [None, "stability", "nt_xent"])
def test_gradients_of_samples_equal_a_loop(loss):
    data = X[:20].astype(np.float32)
    encoder = quick(batch_size=10, temperature=0.4).fit(data)
    explainer = TracInImportance(encoder, loss=loss, random_state=0).fit(data)
    found = explainer.transform(data[:3])
    module = copy.deepcopy(encoder.net_.module_).requires_grad_(True)
    corpus = torch.from_numpy(data)

    def gradient(x):
        value = (
            _bank_loss(module, x, corpus, explainer.seed_, 0.4, 10)
            if loss == "nt_xent"
            else _stability(module, x, explainer.seed_)
        )
        gradients = torch.autograd.grad(value, list(module.encoder.parameters()))
        return torch.cat([g.flatten() for g in gradients]).double()

    gradients = torch.stack([gradient(corpus[i : i + 1]) for i in range(20)])
    expected = 1e-3 * gradients[:3] @ gradients.T  # the learning rate
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


def test_the_bank_follows_the_weights_of_checkpoints():
    data = X[:20].astype(np.float32)
    history = CheckpointHistory(every=1)
    encoder = quick(net_params={"callbacks": [history]}, lr=0.05).fit(data)
    given = dict(loss="nt_xent", random_state=0)
    both = TracInImportance(encoder, checkpoints=history, **given).fit(data).transform(data[:3])
    parts = []
    for weights, rate in history.checkpoints_:
        earlier = quick().initialize(data).load_state_dict(weights)
        explainer = TracInImportance(earlier, **given).fit(data)
        parts.append(explainer.transform(data[:3]) * rate / explainer.learning_rates_[0])
    np.testing.assert_allclose(both, sum(parts), rtol=1e-3, atol=1e-5 * np.abs(both).max())


# So few steps end at no minimum.
@pytest.mark.filterwarnings("ignore:the curvature is negative")
@pytest.mark.parametrize("loss", ["stability", "nt_xent"])
def test_influence_takes_it(loss):
    encoder = quick(hidden_layer_sizes=(), max_epochs=20, lr=0.01).fit(X)
    params = {"loss": loss, "damping": 1.0, "n_draws": 2, "random_state": 0}
    params["curvature"] = "hessian" if loss == "nt_xent" else "gauss_newton"
    explainer = InfluenceImportance(encoder, **params).fit(X[:30])
    assert explainer.transform(X[:3]).shape == (3, 30) and explainer.residual_ < 1e-4


def test_nt_xent_needs_the_hessian():
    encoder = quick(max_epochs=1).fit(X[:20])
    with pytest.raises(TypeError, match="through its output.*set curvature='hessian'"):
        InfluenceImportance(encoder, loss="nt_xent").fit(X[:20])


def test_losses_by_name_are_those_of_contrastive_encoders():
    params = {"n_components": 2, "max_epochs": 1, "validation_split": None, "random_state": 0}
    with pytest.raises(ValueError, match="loss='stability' is of contrastive encoders"):
        TracInImportance(Autoencoder(**params), loss="stability").fit(X)
    with pytest.raises(ValueError, match="loss='nt_xent' is a loss of contrastive encoders"):
        TracInImportance(VariationalAutoencoder(**params), loss="nt_xent").fit(X)
    correlated = VariationalAutoencoder(beta=3.0, total_correlation=True, **params)
    with pytest.raises(TypeError, match="total correlation depends on the other samples"):
        InfluenceImportance(correlated).fit(X)


def test_loss_of_a_variational_autoencoder():
    data = X.astype(np.float32)
    params = {"n_components": 2, "max_epochs": 1, "validation_split": None, "random_state": 0}
    vae = VariationalAutoencoder(beta=2.0, hidden_layer_sizes=(5,), **params).fit(data)
    explainer = TracInImportance(vae, random_state=0, n_draws=4).fit(data)
    module = copy.deepcopy(vae.net_.module_).requires_grad_(True)
    noise = torch.randn(2, 2, generator=torch.Generator().manual_seed(explainer.seed_))

    def gradient(x):
        mean, log_variance = module.posterior(x)
        fits = [
            module.log_likelihood(module.decoder(mean + (log_variance / 2).exp() * e), x)
            for e in (*noise, *-noise)
        ]
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        loss = 2.0 * divergence - sum(fits).sum() / 4
        gradients = torch.autograd.grad(loss, list(module.encoder.parameters()))
        return torch.cat([g.flatten() for g in gradients]).double()

    rows = torch.from_numpy(data)[:, None]
    gradients = torch.stack([gradient(row) for row in rows])
    expected = 1e-3 * gradients[:3] @ gradients.T
    found = explainer.transform(data[:3])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


def test_net_params_that_are_set_elsewhere():
    with pytest.raises(ValueError, match=r"'temperature': set ContrastiveEncoder\(temperature="):
        quick(net_params={"temperature": 2.0}).fit(X)
    with pytest.raises(ValueError, match=r"'module__axes'"):
        quick(net_params={"module__axes": (1,)}).fit(X)


class OnlyAnEncoder(nn.Module):
    def __init__(self, input_shape, n_components):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(*input_shape, 5), nn.Tanh(), nn.Linear(5, 2))


def test_a_decoder_is_not_needed():
    encoder = quick(OnlyAnEncoder).fit(X)
    assert encoder.transform(X).shape == (60, 2) and isinstance(encoder.net_, ContrastiveNet)


class Gains(nn.Module):
    """A user's augmentation that has a weight, and a mode that changes what it does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))

    def forward(self, x, generator):
        noise = torch.randn(x.shape, generator=generator)
        return x * self.weight + (0.1 if self.training else 10.0) * noise


def test_an_augmentation_that_is_a_module_is_not_trained():
    augment = Gains()
    encoder = quick(augment=augment, lr=0.05, max_epochs=5)
    codes = encoder.fit(X).transform(X)
    assert augment.training and augment.weight.grad is None
    assert bool((augment.weight == 1).all())
    assert not any("names" in name for name in encoder.net_.module_.state_dict())
    np.testing.assert_array_equal(encoder.fit(X).transform(X), codes)
    # As a function that does the same.
    plain = Gains()
    same = quick(augment=lambda x, generator: plain(x, generator), lr=0.05, max_epochs=5)
    np.testing.assert_array_equal(same.fit(X).transform(X), codes)


def test_an_augmentation_that_is_a_module_goes_where_the_network_goes():
    encoder = quick(augment=Gains()).fit(X)
    assert encoder.net_.module_.double().views.names.weight.dtype == torch.float64


def test_the_sign_of_zero_is_no_matter_of_the_samples():
    zeros = np.where(X > 0.5, 0.0, X)
    encoder = quick().fit(X)
    assert encoder.score(np.where(zeros == 0, -0.0, zeros)) == encoder.score(zeros)
