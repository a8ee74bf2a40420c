import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """The same networks every time, whatever ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
