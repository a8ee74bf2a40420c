"""The recurrent autoencoder for series."""

from __future__ import annotations

from torch import nn

from ._parts import series_shape


class LSTMAutoencoder(nn.Module):
    """Two LSTM layers and their mirror image, the ECG5000 network of [1]_ (its appendix).

    With d components and c channels, the encoder is LSTM(c, 2d), LSTM(2d, d), of which the last
    hidden state is the code. The decoder repeats the code at every time step and is LSTM(d, d),
    LSTM(d, 2d), Linear(2d, c).

    Parameters
    ----------
    input_shape : tuple of int
        (time,) for series of one channel, or (time, channels).

    n_components : int, default=8
        Length of the code.

    Attributes
    ----------
    encoder : torch.nn.Module
        (n, ...) to (n, n_components).

    decoder : torch.nn.Module
        (n, n_components) to (n, ...).

    See Also
    --------
    sklexplain.nets.Autoencoder : The estimator that trains it, as ``"lstm"``.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import LSTMAutoencoder
    >>> module = LSTMAutoencoder((12, 1), n_components=2)
    >>> module.encoder(torch.zeros(5, *(12, 1))).shape, module.decoder(torch.zeros(5, 2)).shape
    (torch.Size([5, 2]), torch.Size([5, 12, 1]))
    """

    def __init__(self, input_shape: tuple[int, ...], n_components: int = 8) -> None:
        super().__init__()
        n_steps, n_channels = series_shape("lstm", input_shape, "(n, time, channels)")
        one_channel = len(input_shape) == 1
        self.encoder = _LSTMEncoder(n_channels, n_components, one_channel)
        self.decoder = _LSTMDecoder(n_channels, n_components, n_steps, one_channel)


class _LSTMEncoder(nn.Module):
    def __init__(self, n_channels, n_components, one_channel):
        super().__init__()
        self.one_channel = one_channel
        self.lstm0 = nn.LSTM(n_channels, 2 * n_components, batch_first=True)
        self.lstm1 = nn.LSTM(2 * n_components, n_components, batch_first=True)

    def forward(self, x):
        if self.one_channel:
            x = x.unsqueeze(-1)  # (n, time, 1)
        hidden, _ = self.lstm0(x)
        _, (last, _) = self.lstm1(hidden)
        return last[0]  # (n, n_components)


class _LSTMDecoder(nn.Module):
    def __init__(self, n_channels, n_components, n_steps, one_channel):
        super().__init__()
        self.n_steps = n_steps
        self.one_channel = one_channel
        self.lstm0 = nn.LSTM(n_components, n_components, batch_first=True)
        self.lstm1 = nn.LSTM(n_components, 2 * n_components, batch_first=True)
        self.output = nn.Linear(2 * n_components, n_channels)

    def forward(self, code):
        hidden, _ = self.lstm0(code.unsqueeze(1).expand(-1, self.n_steps, -1))
        hidden, _ = self.lstm1(hidden)
        x = self.output(hidden)  # (n, time, channels)
        return x.squeeze(-1) if self.one_channel else x
