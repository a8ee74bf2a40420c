import numpy as np
import pytest
import torch
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    PredefinedSplit,
    ShuffleSplit,
    TimeSeriesSplit,
)
from torch import nn

from sklexplain.training import corrupt, evaluating, split_validation
from sklexplain.utils import draw_seed, seeded

X = np.arange(40, dtype=np.float32).reshape(20, 2)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_denoising_adds_normal_noise():
    x = torch.full((200, 200), 5.0)
    noise = corrupt(x, "denoising", noise_std=0.3, generator=_generator()) - x
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.3) < 0.01
    assert abs((noise.abs() < 0.3).float().mean() - 0.683) < 0.01
    assert (x == 5).all()


def test_inpainting_masks_entries():
    x = torch.full((200, 200), 5.0)
    corrupted = corrupt(x, "inpainting", mask_rate=0.2, generator=_generator())
    masked = corrupted == 0
    assert abs(masked.float().mean() - 0.2) < 0.01
    assert (corrupted[~masked] == 5).all() and (x == 5).all()
    # Entries are masked by themselves, not rows or columns at once.
    assert masked.float().mean(dim=0).std() < 0.05 and masked.float().mean(dim=1).std() < 0.05


def test_reconstruction_changes_nothing():
    assert corrupt(torch.from_numpy(X), "reconstruction") is not None
    torch.testing.assert_close(corrupt(torch.from_numpy(X), "reconstruction"), torch.from_numpy(X))


@pytest.mark.parametrize("pretext", ["denoising", "inpainting"])
def test_corruption_follows_its_generator_only(pretext):
    x = torch.randn(10, 10, generator=_generator())
    state = torch.get_rng_state()
    first = corrupt(x, pretext, generator=_generator(1))
    torch.testing.assert_close(corrupt(x, pretext, generator=_generator(1)), first)
    assert not torch.equal(corrupt(x, pretext, generator=_generator(2)), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_validation_split():
    train, valid = split_validation(0.25, X, None, None, seed=0)
    assert len(valid) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(20))
    np.testing.assert_array_equal(split_validation(0.25, X, None, None, seed=0)[1], valid)
    assert not np.array_equal(split_validation(0.25, X, None, None, seed=1)[1], valid)
    assert len(split_validation(0.01, X, None, None, seed=0)[1]) == 1
    train, valid = split_validation(None, X, None, None, seed=0)
    assert len(train) == 20 and valid is None


def test_groups_are_kept_together():
    groups = np.repeat(np.arange(5), 4)
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.4)
    train, valid = split_validation(splitter, X, None, groups, seed=0)
    assert len(valid) == 8
    assert not set(groups[train]) & set(groups[valid])


def test_the_last_split_of_a_splitter_is_used():
    train, valid = split_validation(TimeSeriesSplit(n_splits=3), X, None, None, seed=0)
    np.testing.assert_array_equal(train, np.arange(15))
    np.testing.assert_array_equal(valid, np.arange(15, 20))
    _, valid = split_validation(KFold(4), X, None, None, seed=0)
    np.testing.assert_array_equal(valid, np.arange(15, 20))
    fold = np.full(20, -1)
    fold[[3, 4]] = 0
    _, valid = split_validation(PredefinedSplit(fold), X, None, None, seed=0)
    np.testing.assert_array_equal(valid, [3, 4])


def test_a_splitter_without_random_state_gets_ours():
    state = np.random.get_state()[1].copy()
    splitter = ShuffleSplit(n_splits=1, test_size=0.3)
    first = split_validation(splitter, X, None, None, seed=0)[1]
    np.testing.assert_array_equal(split_validation(splitter, X, None, None, seed=0)[1], first)
    assert not np.array_equal(split_validation(splitter, X, None, None, seed=1)[1], first)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert splitter.random_state is None  # the one that was passed in stays as it was
    fixed = ShuffleSplit(n_splits=1, test_size=0.3, random_state=5)
    expected = next(fixed.split(X))[1]
    np.testing.assert_array_equal(split_validation(fixed, X, None, None, seed=0)[1], expected)


def test_impossible_splits_are_named():
    with pytest.raises(ValueError, match=r"leaves no sample to train on \(n_samples=1\)"):
        split_validation(0.1, X[:1], None, None, seed=0)
    with pytest.raises(ValueError, match="one group only, so validation_split=0.1 leaves nothing"):
        split_validation(0.1, X, None, np.zeros(20), seed=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        split_validation(0.1, X, None, np.arange(3), seed=0)
    with pytest.raises(ValueError, match="has 0 samples to train on and 0 to validate"):
        split_validation(PredefinedSplit(np.full(20, -1)), X, None, None, seed=0)


def test_draw_seed():
    assert draw_seed(0) == draw_seed(0) == draw_seed(np.random.RandomState(0)) != draw_seed(1)
    state = np.random.get_state()[1].copy()
    assert draw_seed(None) != draw_seed(None)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_seeded_restores_the_global_generator():
    state = torch.get_rng_state()
    with seeded(0):
        first = torch.randn(3)
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(0):
        torch.testing.assert_close(torch.randn(3), first)
    with seeded(1):
        assert not torch.equal(torch.randn(3), first)


def test_evaluating_puts_gradients_back_that_an_interrupt_left_off():
    module = nn.Linear(2, 2)
    with pytest.raises(KeyboardInterrupt), evaluating(module):
        torch.set_grad_enabled(False)  # as when Ctrl-C comes just as torch.no_grad() begins
        raise KeyboardInterrupt
    assert torch.is_grad_enabled()
    assert module.training


def test_evaluating_restores_every_flag():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    module[1].eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False, True]
