"""Problem instances, defined once: small networks of every kind and the data they take."""

import numpy as np
import torch
from torch import nn

# Networks are seeded by the CPU's generator alone: torch.manual_seed keeps a call for every kind of
# accelerator that there is not, with the whole stack as text.


class Recurrent(nn.Module):
    """A recurrent encoder: (n, time, channels) to (n, 4)."""

    def __init__(self, cell=nn.LSTM):
        super().__init__()
        self.rnn = cell(3, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return torch.tanh(self.head(self.rnn(x)[0][:, -1]))


class Transformer(nn.Module):
    """An attention encoder with dropout: (n, time, channels) to (n, 4)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.2)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(dim=1))


def mlp():
    return nn.Sequential(
        nn.Linear(5, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(8, 4),
        nn.Sigmoid(),
    )


def conv1d():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.BatchNorm1d(4),
        nn.ELU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(4 * 10, 4),
    )


def conv2d():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(4 * 9, 5),
    )


# name: (factory, shape of one sample)
NETS = {
    "mlp": (mlp, (5,)),
    "conv1d": (conv1d, (2, 10)),
    "conv2d": (conv2d, (1, 8, 8)),
    "lstm": (Recurrent, (7, 3)),
    "gru": (lambda: Recurrent(nn.GRU), (7, 3)),
    "rnn": (lambda: Recurrent(nn.RNN), (7, 3)),
    "transformer": (Transformer, (7, 3)),
}


def make_net(name, dtype=torch.float32):
    """A network in training mode, as training leaves it, with running statistics of its own."""
    factory, shape = NETS[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = factory().to(dtype)
        net(torch.randn(16, *shape, dtype=dtype))  # moves BatchNorm's statistics
    return net


def make_X(name, n_samples=9, dtype=np.float32):
    """Samples for the network of that name."""
    return np.random.RandomState(0).normal(size=(n_samples, *NETS[name][1])).astype(dtype)


def encode(net, X):
    """What a network makes of X in eval mode; its mode is put back."""
    mode = net.training
    net.eval()
    with torch.no_grad():
        z = net(torch.as_tensor(X)).numpy()
    net.train(mode)
    return z


class Reconstructor(nn.Module):
    """The network of a name as the encoder, and a linear decoder."""

    def __init__(self, name):
        super().__init__()
        factory, shape = NETS[name]
        self.encoder = factory()
        n_units = {"conv2d": 5}.get(name, 4)
        self.decoder = nn.Sequential(
            nn.Linear(n_units, int(np.prod(shape))), nn.Tanh(), nn.Unflatten(1, shape)
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


def make_reconstructor(name, dtype=torch.float32):
    """An autoencoder in training mode, with running statistics of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = Reconstructor(name).to(dtype)
        net(torch.randn(16, *NETS[name][1], dtype=dtype))
    return net
