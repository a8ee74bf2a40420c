"""Networks drawn at random, beside loops over samples and finite differences."""

import time

import numpy as np
import pytest
from numpy.testing import assert_allclose

pytest.importorskip("hypothesis")

from hypothesis import assume, given, note
from hypothesis import strategies as st

from sklexplain import (
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    NoiseScorer,
    TracInImportance,
    VarianceScorer,
)

from . import references
from .blocks import Experts
from .conftest import networks_settings
from .networks import networks

pytestmark = pytest.mark.filterwarnings("ignore")

# Relative to the largest number that is compared.
TOLERANCE = {"float64": 1e-6, "float32": 5e-5}


class Cases:
    """Counts cases, and how near they came to the tolerance."""

    def __init__(self):
        self.n_cases, self.n_compared, self.worst, self.start = 0, 0, {}, time.perf_counter()

    def close(self, found, expected, X, factor=1.0, scale=None, again=False):
        """Check numbers where the expected ones are known."""
        known = ~np.isnan(expected)
        found, expected = np.asarray(found, dtype=np.float64)[known], expected[known]
        self.n_cases += not again
        self.n_compared += found.size
        if not found.size:
            return
        scale = np.abs(expected).max() if scale is None else scale
        scale = max(scale, 1e-3)  # below that, all is rounding
        dtype = X.dtype.name
        deviation = np.abs(found - expected).max() / scale
        note(f"deviation {deviation:.1e} of {scale:.1e}")
        assert_allclose(found, expected, rtol=0, atol=factor * TOLERANCE[dtype] * scale)
        # A plain number: it travels between the processes of a run.
        self.worst[dtype] = max(self.worst.get(dtype, 0.0), float(deviation))


@pytest.fixture
def cases(request):
    counted = Cases()
    yield counted
    seconds = time.perf_counter() - counted.start
    name = request.node.name.removeprefix("test_")
    request.node.user_properties.append(
        ("fuzz", (name, int(counted.n_cases), int(counted.n_compared), counted.worst, seconds))
    )


def explained(case, explainer, **params):
    explainer = explainer(case.net, random_state=0, batch_size=16, **params)
    return explainer.fit(case.X)


# -- label-free attributions -----------------------------------------------------------------------

N_POINTS = 3
PARAMS = {
    "integrated_gradients": {"n_steps": N_POINTS},
    "gradient_shap": {"n_samples": N_POINTS},
    "smooth_grad": {"n_samples": N_POINTS},
}


def by_differences(net, X, baselines, weights, points):
    """Attributions, one point after the other."""
    total = np.zeros(X.shape)
    for position, weight, row, noise, times_difference in points:
        start = baselines[row][None]
        at = start + position * (X - start) + noise
        gradient = references.input_gradients(net, at, weights)
        total += weight * gradient * ((X - start) if times_difference else 1.0)
    return total


@pytest.mark.parametrize(
    "method",
    ["saliency", "input_x_gradient", "integrated_gradients", "gradient_shap", "smooth_grad"],
)
def test_attributions(method, cases):
    @networks_settings
    @given(networks(), st.data())
    def check(case, data):
        baselines = case.X[:2] / 2 - 0.1
        center = data.draw(st.booleans())
        attributor = explained(
            case,
            LabelFreeAttributor,
            method=method,
            method_params=PARAMS.get(method),
            baseline=baselines,
            center=center,
        )
        found = attributor.transform(case.X)
        net, X = references.twin(case.net), case.X.astype(np.float64)
        weights = references.outputs(net, X)
        if center:
            weights = weights - references.outputs(net, baselines).mean(axis=0)
        points = references.points(method, N_POINTS, len(baselines), X, attributor.seed_)
        cases.close(found, by_differences(net, X, baselines, weights, points), case.X)

    check()


def test_deep_lift(cases):
    @networks_settings
    @given(networks(), st.data())
    def check(case, data):
        baselines = case.X[:2] / 2 - 0.1
        if data.draw(st.booleans()):
            baselines = np.zeros_like(case.X[:1])
        attributor = explained(case, LabelFreeAttributor, method="deep_lift", baseline=baselines)
        found = attributor.transform(case.X)
        net = references.twin(case.net)
        Z, Z0 = references.outputs(net, case.X), references.outputs(net, baselines)
        expected = (Z * (Z - Z0.mean(axis=0))).sum(axis=1)
        if any(isinstance(m, Experts) and m.jumps for m in net.modules()):
            expected = np.full_like(expected, np.nan)  # no slopes explain a jump
        lengths = np.linalg.norm(Z, axis=1) * np.linalg.norm(Z - Z0.mean(axis=0), axis=1)
        sums = found.reshape(len(found), -1).sum(axis=1, dtype=np.float64)
        # A kink inside an operation whose Jacobian is averaged over 256 points.
        factor = 1.0 if case.exact else 0.02 / TOLERANCE[case.X.dtype.name]
        cases.close(sums, expected, case.X, factor, scale=lengths.max())
        alone = np.concatenate(
            [attributor.transform(case.X[i : i + 1]) for i in range(min(2, len(case.X)))]
        )
        cases.close(found[:2], alone.astype(np.float64), case.X, factor, again=True)

    check()


# -- maps of layers and scores ---------------------------------------------------------------------


def layer_maps(case, net, name, x, saliency):
    """Maps of every unit of one sample: (N, channels, positions)."""
    return references.unit_maps(
        net, name, x, case.points[name], case.batch_axes.get(name, 0), saliency
    )


SALIENCIES = st.sampled_from(["gradient", "activation_x_gradient"])
AGGREGATORS = st.sampled_from(["abs", "mean", "var"])


def test_embedding_maps(cases):
    @networks_settings
    @given(networks(), SALIENCIES, AGGREGATORS, AGGREGATORS)
    def check(case, saliency, channel_agg, unit_agg):
        name = next(iter(case.points))
        attributor = explained(
            case,
            EmbeddingAttributor,
            layer=name,
            saliency=saliency,
            channel_agg=channel_agg,
            unit_agg=unit_agg,
            upsample=False,
        )
        found = attributor.transform(case.X)
        net = references.twin(case.net)
        expected, sizes = [], []
        for x in case.X:
            maps = layer_maps(case, net, name, x, saliency)
            m, _ = references.aggregated(maps, channel_agg, 1)
            m, size = references.aggregated(m, unit_agg, 0)
            expected.append(m)
            sizes.append(size)
        expected = np.stack(expected)
        scale = np.max(sizes)
        cases.close(found.reshape(expected.shape), expected, case.X, scale=scale)

    check()


def test_noise_scores(cases):
    @networks_settings
    @given(networks(), SALIENCIES, AGGREGATORS, AGGREGATORS)
    def check(case, saliency, channel_agg, unit_agg):
        case.net.double()
        X = case.X.astype(np.float64)
        scorer = NoiseScorer(
            case.net,
            layers=list(case.points),
            saliency=saliency,
            channel_agg=channel_agg,
            unit_agg=unit_agg,
            n_noise=2,
            random_state=0,
            batch_size=16,
        ).fit(X)
        found = scorer.transform(X)
        net = references.twin(case.net)
        noise = references.uniform_noise(X, 4, scorer.seed_)
        for j, name in enumerate(case.points):

            def scaled(x, name=name):
                maps, size = references.aggregated(
                    layer_maps(case, net, name, x, saliency), channel_agg, 1
                )
                again, size = references.aggregated(maps, unit_agg, 0)
                return references.scaled(again, size)

            first = [scaled(x) for x in noise[:2]]
            expected = [np.mean([np.abs(scaled(x) - m).mean() for m in first]) for x in X]
            cases.close(found[:, j], np.array(expected), X, scale=1.0)

    check()


def test_variance_scores(cases):
    @networks_settings
    @given(networks(), SALIENCIES, AGGREGATORS)
    def check(case, saliency, channel_agg):
        case.net.double()
        X = case.X.astype(np.float64)
        scorer = VarianceScorer(
            case.net,
            layers=list(case.points),
            saliency=saliency,
            channel_agg=channel_agg,
            batch_size=16,
        ).fit(X)
        found = scorer.transform(X)
        net = references.twin(case.net)
        for j, name in enumerate(case.points):
            expected = []
            for x in X:
                maps, sizes = references.aggregated(
                    layer_maps(case, net, name, x, saliency), channel_agg, 1
                )
                pairs = zip(maps, sizes, strict=True)
                expected.append(np.var([references.scaled(*p) for p in pairs], axis=0).mean())
            cases.close(found[:, j], np.array(expected), X, scale=1.0)

    check()


# -- gradients of a loss ---------------------------------------------------------------------------


def loss(output, x):
    """A loss of every sample that is convex in the output."""
    return (output.flatten(1) - 0.3).square().mean(dim=1)


CURVATURE_OF_LOSS = 2 * np.eye(3) / 3  # its second derivative by three outputs


@st.composite
def chosen_parameters(draw, case, largest=10**6):
    """Some parameters of a network, not too many entries."""
    names = [n for n, p in case.net.named_parameters() if p.numel() <= largest]
    assume(names)
    return draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))


def test_per_sample_gradients(cases):
    @networks_settings
    @given(networks(), st.data())
    def check(case, data):
        names = [name for name, _ in case.net.named_parameters()]
        parameters = "all"
        if data.draw(st.booleans()):
            names = parameters = data.draw(chosen_parameters(case))
        tracin = explained(case, TracInImportance, loss=loss, parameters=parameters)
        found = np.asarray(tracin.transform(case.X))
        net = references.twin(case.net)
        gradients = references.loss_gradients(net, case.X, loss, names)
        direction = np.random.default_rng(0).normal(size=gradients.shape[1])
        slopes = references.slopes_along(net, case.X, loss, names, direction)
        cases.close(gradients @ direction, slopes, case.X.astype(np.float64))
        cases.close(found, gradients @ gradients.T, case.X, again=True)

    check()


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_influence(curvature, solver, cases):
    @networks_settings
    @given(networks(), st.data())
    def check(case, data):
        names = data.draw(chosen_parameters(case, largest=20))
        net = references.twin(case.net)
        matrix = references.curvature(net, case.X, loss, names, curvature, CURVATURE_OF_LOSS)
        assume(matrix is not None)
        # So much damping that no curvature is negative.
        damping = 0.1 + 2 * max(0.0, -np.linalg.eigvalsh(matrix).min())
        influence = explained(
            case,
            InfluenceImportance,
            loss=loss,
            parameters=names,
            curvature=curvature,
            solver=solver,
            damping=damping,
            tol=1e-10,
        )
        found = np.asarray(influence.transform(case.X))
        gradients = references.loss_gradients(net, case.X, loss, names)
        inverse = np.linalg.inv(matrix + damping * np.eye(len(matrix)))
        expected = gradients @ inverse @ gradients.T / len(case.X)
        cases.close(found, expected, case.X)

    check()
