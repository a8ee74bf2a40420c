"""pyDVL's side of ``speed/influence.py``, run by a Python that has pyDVL and its needs.

Reads one request a line from standard input, as JSON, and answers one line of JSON each:

    {"method": "nystroem", "rank": 50, "damping": 0.001, "out": "matrix.npy"}
    {"seconds": [12.3, 12.2]}

which are seconds by the clock and of processor time, with the importance matrix (n_query, n_train)
in the file ``out``.
"""

import argparse
import json
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from pydvl.influence.torch import InverseHarmonicMeanInfluence, NystroemSketchInfluence
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from .common import MnistAutoencoder, load_digits_28x28


def make(method, model, damping, rank):
    """Return an influence model of pyDVL, not fitted."""
    if method == "nystroem":
        return NystroemSketchInfluence(model, mse_loss, regularization=damping, rank=rank)
    return InverseHarmonicMeanInfluence(model, mse_loss, regularization=damping)


def influence(request, model, train, query):
    """Seconds by the clock and of processor time of fit and matrix, and the matrix."""
    torch.manual_seed(request.get("seed", 0))
    loader = DataLoader(TensorDataset(train, train), batch_size=request.get("batch_size", 1000))
    start = np.array([time.perf_counter(), time.process_time()])
    fitted = make(request["method"], model, request["damping"], request.get("rank")).fit(loader)
    values = fitted.influences(query, query, train, train)
    seconds = np.array([time.perf_counter(), time.process_time()]) - start
    return seconds.tolist(), values.detach().numpy() / len(train)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="state dict of the network")
    parser.add_argument("--n-train", type=int, required=True)
    parser.add_argument("--n-query", type=int, required=True)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parts = MnistAutoencoder()
    parts.load_state_dict(torch.load(args.weights))
    model = nn.Sequential(parts.encoder, parts.decoder.requires_grad_(False)).eval()
    X = torch.from_numpy(load_digits_28x28()[0])
    train, query = X[: args.n_train], X[args.n_train : args.n_train + args.n_query]
    print(json.dumps({"pydvl": version("pyDVL"), "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        seconds, matrix = influence(request, model, train, query)
        np.save(request["out"], matrix)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
