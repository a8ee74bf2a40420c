"""How tests run a benchmark script: as Python does, but in this process, which has torch already.

A process of its own takes six seconds before a script does anything.
"""

import json
import os
import runpy
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks"


def _is_script(module):
    file = getattr(module, "__file__", None)
    return file is not None and SCRIPTS in Path(file).parents


def _forget_scripts():
    """Each script imports what it needs by itself, whatever ran before it."""
    for name in [name for name, module in list(sys.modules.items()) if _is_script(module)]:
        del sys.modules[name]


@contextmanager
def _as_a_process(script, options, folder):
    """Arguments, import path and folder as a new process has them; all is put back."""
    before = sys.argv, list(sys.path), Path.cwd(), torch.get_num_threads()
    states = np.random.get_state(), torch.get_rng_state()
    _forget_scripts()
    sys.argv = [str(script), *map(str, options)]
    sys.path.insert(0, str(script.parent))
    os.chdir(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # what a script warns of is its user's to see
            yield
    finally:
        sys.argv, sys.path[:] = before[:2]
        os.chdir(before[2])
        torch.set_num_threads(before[3])
        np.random.set_state(states[0])
        torch.set_rng_state(states[1])
        _forget_scripts()


def run(script, tmp_path, *options):
    """Run a script with --smoke from another folder, as Python does; return its results."""
    script, out = SCRIPTS / script, tmp_path / "results.json"
    with _as_a_process(script, ["--smoke", "--out", out, *options], tmp_path):
        runpy.run_path(str(script), run_name="__main__")
    results = json.loads(out.read_text())
    assert {"settings", "environment"} <= set(results)
    assert results["environment"]["n_cores"] >= 1
    return results
