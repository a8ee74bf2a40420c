"""Anomalies, contrasts, dictionaries and surrogates of networks drawn at random, beside loops."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("hypothesis")

from hypothesis import assume, given
from hypothesis import strategies as st

from sklexplain import AnomalyAttributor, LabelFreeAttributor, LatentSurrogate, SparseDictionary

from . import references
from .conftest import networks_settings
from .networks import N_UNITS, networks
from .test_networks import N_POINTS, by_differences, cases, explained  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore")

IG = {"method": "integrated_gradients", "method_params": {"n_steps": N_POINTS}}


class Score(nn.Module):
    """One number of what a network returns."""

    def __init__(self, net, function):
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x):
        return self.function(self.net(x), x)[:, None]


def paths(score, X, baselines):
    """Integrated gradients of a score by differences, from each sample's own baseline."""
    rows = []
    for x, baseline in zip(X, baselines, strict=True):
        points = references.points("integrated_gradients", N_POINTS, 1, X, 0)
        own = baseline[None]
        rows.append(by_differences(score, x[None], own, np.ones((1, 1)), points)[0])
    return np.stack(rows)


def share_above(scores, own):
    """The p-value of one score by its definition."""
    return (1 + sum(score >= own for score in scores)) / (len(scores) + 1)


def check_pvalues(cases, explainer, s, X):  # noqa: F811
    cases.close(-explainer.score_samples(X), s, X, again=True)
    usual = np.sort(-explainer.calibration_scores_)
    cases.close(usual, np.sort(s), X, again=True)
    own = -explainer.score_samples(X)
    found = explainer.pvalue(X)
    # What is calibrated on is scored in the same pass, so that it is not above itself by rounding.
    expected = [share_above(usual, value) for value in own]
    np.testing.assert_allclose(found, expected)


def test_anomalies_of_a_callable(cases):  # noqa: F811
    """A score of the output; common baselines, and neighbours in the output."""

    @networks_settings
    @given(networks(), st.data())
    def check(case, data):
        def square(z):
            return z.square().sum(dim=1)

        net, X = references.twin(case.net), case.X.astype(np.float64)
        score = Score(net, lambda z, x: square(z.flatten(1)))
        baseline, k = case.X[:1] / 2 - 0.1, data.draw(st.integers(1, 3))
        near = data.draw(st.booleans())
        params = {"baseline": "neighbors", "n_neighbors": k} if near else {"baseline": baseline}
        explainer = explained(case, AnomalyAttributor, score_function=square, **IG, **params)
        rows = np.repeat(baseline.astype(np.float64), len(X), axis=0)
        if near:
            codes = references.outputs(net, X)
            rows = np.stack([neighbours_mean(X, codes, i, k) for i in range(len(X))])
            cases.close(explainer.references(case.X), rows, case.X, again=True)
        cases.close(explainer.transform(case.X), paths(score, X, rows), case.X)
        s = references.outputs(score, X)[:, 0]
        check_pvalues(cases, explainer, s, case.X)

    check()


def neighbours_mean(X, codes, i, k):
    """Mean of the nearest other samples, the first of equally near ones."""
    others = [j for j in range(len(X)) if not (X[j] == X[i]).all()] or [i]
    gaps = sorted((((codes[j] - codes[i]) ** 2).sum(), j) for j in others)
    near = sorted(gap for gap, _ in gaps)
    # Where two are equally far but for rounding, either is right.
    assume(len(near) <= k or near[k] - near[k - 1] > 1e-4 * (near[k] + 1e-9))
    return sum(X[j] for _, j in gaps[:k]) / min(k, len(gaps))


class Rebuilds(nn.Module):
    """A network drawn at random, and a layer that rebuilds its input from the output."""

    def __init__(self, net, shape):
        super().__init__()
        self.encoder, self.shape = net, shape
        self.decoder = nn.Linear(N_UNITS, int(np.prod(shape)))

    def forward(self, x):
        z = self.decoder(self.encoder(x).flatten(1))
        return z.reshape(-1, *self.shape)


@pytest.mark.parametrize("kind", ["reconstruction", "largest_residual"])
def test_anomalies_of_reconstructions(kind, cases):  # noqa: F811
    @networks_settings
    @given(networks())
    def check(case):
        shape = case.X.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = Rebuilds(case.net, shape).to(next(iter(case.net.parameters())).dtype).eval()
        explainer = AnomalyAttributor(
            net, score_function=kind, baseline="reconstruction", batch_size=16, **IG
        ).fit(case.X)
        twin, X = references.twin(net), case.X.astype(np.float64)
        rebuilt = references.outputs(twin, X).reshape(X.shape)
        cases.close(explainer.residuals(case.X), X - rebuilt, case.X, again=True)
        squares = ((X - rebuilt) ** 2).reshape(len(X), -1)
        usual = np.ones(squares.shape[1]) * squares.shape[1]
        if kind == "largest_residual":
            usual = np.maximum(squares.mean(axis=0), 1e-6 * squares.mean())
        largest = kind == "largest_residual"

        def score_of(z, x):
            parts = (x - z).flatten(1).square() / torch.from_numpy(usual)
            return parts.amax(dim=1) if largest else parts.sum(dim=1)

        score = Score(twin, score_of)
        # Reconstructions of single precision: the path begins there.
        rows = explainer.references(case.X).astype(np.float64)
        cases.close(rows, rebuilt, case.X, again=True)
        expected = paths(score, X, rows)
        cases.close(explainer.transform(case.X), expected, case.X, factor=10.0)
        s = references.outputs(score, X)[:, 0]
        cases.close(-explainer.score_samples(case.X), s, case.X, again=True)
        if largest and len(X) > 1:
            s = [by_others(squares, i) for i in range(len(X))]
        cases.close(np.sort(-explainer.calibration_scores_), np.sort(s), case.X, again=True)

    check()


def by_others(squares, i):
    """Largest square over what is usual among the other samples."""
    usual = np.delete(squares, i, axis=0).mean(axis=0)
    return (squares[i] / np.maximum(usual, 1e-6 * usual.mean())).max()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_contrasts(similarity, cases):  # noqa: F811
    """Like the corpus and unlike the foil, one pair of samples after the other."""

    @networks_settings
    @given(networks(), st.booleans())
    def check(case, with_foil):
        baselines = case.X[:1] / 2 - 0.1
        corpus, foil = case.X[:2] + 0.1, case.X[-2:] - 0.2 if with_foil else None
        if with_foil:  # there is nothing to contrast in what is normalised to be the same
            net = references.twin(case.net)
            gap = references.outputs(net, corpus).mean(0) - references.outputs(net, foil).mean(0)
            assume(np.linalg.norm(gap) > 1e-3)
        attributor = explained(
            case,
            LabelFreeAttributor,
            corpus=corpus,
            foil=foil,
            similarity=similarity,
            baseline=baselines,
            **IG,
        )
        net = references.twin(case.net)

        def likeness(z, members):
            known = torch.from_numpy(references.outputs(net, members))
            if similarity == "dot":
                return sum(z @ one for one in known) / len(known)
            return sum(F.cosine_similarity(z, one[None], dim=1) for one in known) / len(known)

        def score_of(z, x):
            z = z.flatten(1)
            return likeness(z, corpus) - (0 if foil is None else likeness(z, foil))

        codes = references.outputs(net, np.concatenate([case.X, corpus, baselines]))
        # The cosine of a code of 0 is 0, beside which it jumps.
        assume(similarity == "dot" or np.linalg.norm(codes, axis=1).min() > 1e-2)
        X = case.X.astype(np.float64)
        rows = np.repeat(baselines.astype(np.float64), len(X), axis=0)
        expected = paths(Score(net, score_of), X, rows)
        cases.close(attributor.transform(case.X), expected, case.X)

    check()


def test_dictionaries(cases):  # noqa: F811
    """The k largest of what drives the concepts, one sample after the other, and back."""

    @networks_settings
    @given(networks(), st.integers(1, 3))
    def check(case, k):
        name = next(iter(case.points))
        X = np.concatenate([case.X, case.X[::-1] + 0.3, case.X * 0.5])
        several = isinstance(case.net.get_submodule(name), nn.RNNBase)
        layer = f"{name}[0]" if several else name
        dictionary = SparseDictionary(
            case.net, layer=layer, n_concepts=5, k=k, max_epochs=2, random_state=0, batch_size=16
        )
        dictionary.set_params(sparse_output=False).fit(X)
        module, net = dictionary.net_.module_, references.twin(case.net)
        weight, bias = (v.detach().double().numpy() for v in (module.weight, module.bias))
        directions = dictionary.components_.reshape(5, -1).astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
        z = np.stack([activation(net, name, x, case.batch_axes.get(name, 0)) for x in X])
        expected, rebuilt = [], []
        for one in z:
            drive = [max(0.0, float(row @ (one - bias))) for row in weight]
            order = sorted(range(5), key=lambda j: -drive[j])
            kept = [drive[j] if j in order[:k] else 0.0 for j in range(5)]
            # Where the last one kept and the next are equal but for rounding, either is right.
            tied = k < 5 and drive[order[k - 1]] - drive[order[k]] < 1e-4 * max(drive)
            expected.append([np.nan] * 5 if tied and max(drive) > 0 else kept)
            rebuilt.append(sum(v * row for v, row in zip(kept, directions, strict=True)))
        found = dictionary.transform(X)
        single = X.astype(np.float32)  # the dictionary's own precision
        # Where the mean is far from the origin, its rounding is what counts.
        scale = max(np.abs(z).max(), np.nanmax(expected, initial=0.0))
        cases.close(found, np.array(expected), single, scale=scale)
        back = dictionary.inverse_transform(found).reshape(len(X), -1)
        loop = np.stack(rebuilt) + dictionary.intercept_.ravel()
        untied = ~np.isnan(expected).any(axis=1)
        cases.close(back[untied], loop[untied], single, scale=scale, again=True)

    check()


def activation(net, name, x, batch_axis):
    """What leaves a layer, for one sample."""
    kept = []

    def keep(_module, _inputs, output):
        kept.append((output[0] if isinstance(output, tuple) else output).clone())

    handle = net.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        net(torch.from_numpy(np.array(x, dtype=np.float64))[None])
    handle.remove()
    return kept[-1].select(batch_axis, 0).flatten().numpy()


def test_surrogates(cases):  # noqa: F811
    """A tree of one decision is the best of all splits of all columns."""

    @networks_settings
    @given(networks(), st.integers(0, 2**16))
    def check(case, seed):
        shape = case.X.shape[1:]
        X = np.random.default_rng(seed).normal(size=(24, *shape)).astype(case.X.dtype)
        net = references.twin(case.net)
        if len(shape) > 1:
            case_net = nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape), case.net)
            case_net, X = case_net.eval(), X.reshape(24, -1)
            units = references.outputs(net, X.reshape(24, *shape))
        else:
            case_net, units = case.net, references.outputs(net, X)
        entries = [f"entry {i}" for i in range(X.shape[1])]  # of series, too, no segments
        surrogate = LatentSurrogate(case_net, max_depth=1, groups=entries, random_state=0).fit(X)
        told = surrogate.transform(X)
        for j, unit in enumerate(units.T):
            found = ((told[:, j] - unit) ** 2).sum()
            total = ((unit - unit.mean()) ** 2).sum()
            best = min(total, *(split_error(column, unit) for column in X.T.astype(np.float64)))
            if total - best > 1e-3 * total and total > 1e-12:
                cases.close([found / total], np.array([best / total]), case.X, 10.0, 1.0)

    check()


def split_error(column, unit):
    """Sum of squares that the best threshold on one column leaves."""
    order = np.argsort(column)
    errors = []
    for i in range(1, len(unit)):
        parts = unit[order[:i]], unit[order[i:]]
        errors.append(sum(((part - part.mean()) ** 2).sum() for part in parts))
    return min(errors)
