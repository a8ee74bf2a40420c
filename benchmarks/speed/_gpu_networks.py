"""Networks that are timed on a GPU."""

from torch import nn


class Block(nn.Module):
    """Two convolutions and what goes around them: a block of ResNet-18."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.down = None
        if stride != 1 or n_in != n_out:
            self.down = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.down is None else self.down(x)))


def resnet18(width=64):
    """ResNet-18 without its last layer: 512 units with the usual width."""
    sizes = [width * 2**i for i in range(4)]
    layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    n_in = width
    for i, size in enumerate(sizes):
        layers += [Block(n_in, size, 1 if i == 0 else 2), Block(size, size, 1)]
        n_in = size
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class LSTM(nn.Module):
    """The last hidden state of an LSTM over (n, 1, time)."""

    def __init__(self, n_units=32):
        super().__init__()
        self.rnn = nn.LSTM(1, n_units, batch_first=True)

    def forward(self, x):
        return self.rnn(x.transpose(1, 2))[0][:, -1]
