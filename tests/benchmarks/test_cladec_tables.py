import numpy as np

from benchmarks.papers import cladec_tables


def test_what_is_there_is_not_computed_again(monkeypatch):
    args = cladec_tables.BENCHMARK.arguments({}, smoke=True)
    computed, saved = [], []
    monkeypatch.setattr(cladec_tables.Run, "piece", lambda *a, **k: computed.append(a) or {})
    monkeypatch.setattr(cladec_tables.Run, "without_training", lambda *a, **k: {})
    results = {"runs": {"0": {"-1": {}, "heartbeats": {}}}}
    cladec_tables.measure(args, results, lambda: saved.append(1))
    # Of what needs no training of decoders, weights have none of their own.
    assert (len(computed), len(saved)) == (11, 20)
    cladec_tables.measure(args, results, lambda: saved.append(1))
    assert (len(computed), len(saved)) == (11, 20)
    assert set(results["runs"]["0"]) == {name for name, *_ in cladec_tables.pieces(args)}


def test_differences_have_the_intervals_of_paired_answers():
    run = {"a": {"wrong": [0, 1]}, "b": {"wrong_reference": [1, 2, 3, 4]}}
    results = {"settings": {"n_test": 10}, "runs": {"0": run, "1": {}}}
    ((difference, half),) = cladec_tables.differences(results, "a", "b")
    answers = np.zeros(10)
    answers[[2, 3, 4]], answers[0] = 1, -1
    assert np.isclose(difference, answers.mean())
    assert np.isclose(half, 1.96 * answers.std() / np.sqrt(10))
    assert cladec_tables.mean_difference([(0.1, 0), (0.3, 0)]).startswith("+0.200 ± 1.271")
