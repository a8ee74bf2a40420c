r"""One runner for all benchmarks.

    python -m benchmarks papers.srae_table1               # measure what is missing, write the page
    python -m benchmarks papers.drift --seeds 0 1 2 3     # a setting or an option, by its name
    python -m benchmarks papers.drift speed.dknn --render # only write the sections again
    python -m benchmarks speed                            # all scripts of a folder
    python -m benchmarks papers.drift --smoke             # a tiny run, into a temporary folder
    python -m benchmarks papers.drift --seeds 3 --out 3/   # one piece, beside other processes
    python -m benchmarks papers.drift --merge 3/ 4/        # what they found, joined
    python -m benchmarks --list

How to write a script
---------------------
A script is a file ``benchmarks/papers/NAME.py`` or ``benchmarks/speed/NAME.py``. It ends in
``BENCHMARK = Benchmark(...)`` and has no command line of its own::

    from .._runner import Benchmark, complete
    from ..common import markdown_table


    def one_seed(seed, args):
        return {"score": args.n_train * seed}


    def measure(args, results, save):
        tasks = {str(seed): lambda seed=seed: one_seed(seed, args) for seed in args.seeds}
        complete(results.setdefault("seeds", {}), tasks, save)


    def render(results):
        rows = [[seed, entry["score"]] for seed, entry in results["seeds"].items()]
        return "## Title\n\nWhat was done.\n\n" + markdown_table(["seed", "score"], rows)


    BENCHMARK = Benchmark(
        section="name of the section",
        page="anomalies.md",
        measure=measure,
        render=render,
        settings={"n_train": 4000},
        options={"seeds": [0, 1, 2]},
        smoke={"n_train": 20, "seeds": [0]},
    )

That is all: the runner finds the file, and so does the test that runs every script with
``--smoke``. What several scripts share begins with an underscore, or is one of `SHARED`.

What is found is said by hand, in plain sentences under the section's title on its page, between
``<!-- name of the section: found -->`` and ``<!-- name of the section: details -->``: the runner
leaves that as it is, and a test asks for it. A claim of a paper has a line in
``docs/results/README.md``, with its verdict.

``measure(args, results, save)``
    ``args`` has every setting and option as an attribute, and ``args.smoke``. ``results`` is a
    dict that has ``"settings"`` and ``"environment"`` already and, if an earlier run had the same
    settings, all that it found; measure adds what is missing and calls ``save()`` after each
    piece, so that a run that is stopped goes on where it was. `complete` is that loop.
    Where it cannot measure anything, it raises ``Skip`` with a sentence: nothing is written then.
``render(results)``
    Returns the section in Markdown, with its ``## Title``, from the results and nothing else. It
    may return None where there is not enough to show.
``settings``
    What numbers depend on: recorded in the results, and compared when a run goes on. Each is an
    option of the command line, too: ``n_train`` is ``--n-train``. The type is that of the default;
    a list takes several values. An `Option` adds help, choices or the type of a None.
``options``
    The same, but neither recorded nor compared: which pieces to compute, where to keep files.
``fixed``
    Recorded and compared like settings, but no options.
``smoke``
    What ``--smoke`` has instead of the defaults, so that a run takes a second or two.
``summarize(results)``
    If there is one, it is called before every render and adds what follows from the results.
``threads``
    Of torch; None leaves them as they are.
``resume=False``
    For times: every run starts anew.

An old script with a ``main`` becomes one in a few steps. Take ``sys.path`` and ``parse_args`` out,
and write ``from ..common import ...``. Defaults of ``parse_args`` become settings, if ``main`` put
them into the results' ``settings``, or else options; its ``if args.smoke`` is the dict ``smoke``;
``--out``, ``--docs``, ``--render`` and ``--smoke`` go. The loop of ``main`` is ``measure``, with
``save()`` for ``write_json(args.out, results)``. Results stay where they are:
``results/NAME.json`` beside the script.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch

from .common import ROOT, environment, write_json, write_section

HERE = Path(__file__).parent
PAGES = ROOT / "docs" / "results"
FOLDERS = ("papers", "speed")
SHARED = (
    "compare",
    "common",
    "embedding_scores",
    "embeddings",
    "pydvl_side",
)  # in this folder, no scripts


@dataclass(frozen=True)
class Option:
    """A setting or option of which more must be said than its default.

    Parameters
    ----------
    default : object
        Its value if the command line has none.
    help : str
        What it is.
    choices : collection or None
        Values that it may have.
    type : callable or None
        Of a value; None: the type of the default.
    """

    default: object
    help: str = ""
    choices: object = None
    type: Callable | None = None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a script holds; the docstring of this module says what each part is.

    Parameters
    ----------
    section : str
        Name of the section in its page's markers.
    page : str
        File in ``docs/results``.
    measure : callable
        ``measure(args, results, save)``.
    render : callable
        ``render(results)`` returns the section.
    settings, options : dict
        Defaults by name, or `Option` objects.
    fixed : dict
        More that is recorded among the settings.
    smoke : dict
        Values for a tiny run.
    summarize : callable or None
        ``summarize(results)``, before rendering.
    threads : int or None
        Of torch.
    resume : bool
        Whether a run goes on from earlier results with the same settings.
    """

    section: str
    page: str
    measure: Callable
    render: Callable
    settings: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    fixed: dict = field(default_factory=dict)
    smoke: dict = field(default_factory=dict)
    summarize: Callable | None = None
    threads: int | None = None
    resume: bool = True

    def __post_init__(self):
        known = {**self.settings, **self.options}
        if unknown := sorted(set(self.smoke) - set(known)):
            raise ValueError(f"smoke has {unknown}, which are neither settings nor options.")

    def arguments(self, given, smoke):
        """Values of all settings and options: of a command line, of a smoke run, or defaults."""
        known = {
            name: value.default if isinstance(value, Option) else value
            for name, value in {**self.settings, **self.options}.items()
        }
        return SimpleNamespace(**{**known, **(self.smoke if smoke else {}), **given}, smoke=smoke)

    def recorded(self, args):
        """Return what the results file has as settings, as JSON gives it back."""
        settings = {name: getattr(args, name) for name in self.settings} | self.fixed
        return json.loads(json.dumps(settings))

    def section_of(self, results):
        """Summarize results, and render them."""
        if self.summarize is not None:
            self.summarize(results)
        return self.render(results)


def complete(place, tasks, save):
    """Compute what is missing, and save after each piece.

    Parameters
    ----------
    place : dict
        The pieces there are, by name; new ones are added.
    tasks : dict of str to callable
        Functions of nothing that return a piece.
    save : callable
        As `measure` gets it.
    """
    for name, compute in tasks.items():
        if name not in place:
            start = time.perf_counter()
            place[name] = compute()
            save()
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


class Skip(Exception):
    """What a script raises where it has nothing to measure, with the sentence that says so."""


# -- scripts -------------------------------------------------------------------------------------


def names():
    """Return the names of all scripts: ``"papers.drift"``."""
    here = [path for path in HERE.glob("*.py") if path.stem not in SHARED]
    found = [*here, *(path for folder in FOLDERS for path in (HERE / folder).glob("*.py"))]
    parts = [path.relative_to(HERE).with_suffix("").parts for path in found]
    return sorted(".".join(p) for p in parts if not p[-1].startswith("_"))


def load(name):
    """Return a script's `Benchmark`.

    Parameters
    ----------
    name : str
        As in `names`.

    Returns
    -------
    benchmark : Benchmark

    Raises
    ------
    ValueError
        If there is no such script.
    TypeError
        If a file is no script as this module wants it.
    """
    if name not in names():
        raise ValueError(f"There is no benchmark {name!r}; `python -m benchmarks --list` has all.")
    benchmark = getattr(importlib.import_module(f"benchmarks.{name}"), "BENCHMARK", None)
    if not isinstance(benchmark, Benchmark):
        raise TypeError(
            f"benchmarks/{name.replace('.', '/')}.py has no `BENCHMARK = Benchmark(...)`; the "
            "docstring of benchmarks/_runner.py says how to write one. If several scripts share "
            "the file and it is none itself, let its name begin with an underscore."
        )
    return benchmark


def chosen(wanted):
    """Names of scripts for what was asked for: scripts, folders or paths of files."""
    found = []
    for name in wanted:
        name = name.removesuffix(".py").replace("/", ".").removeprefix("benchmarks.")
        inside = [n for n in names() if n.startswith(f"{name}.")]
        found += inside or [name]
    return found


def results_path(name, folder=None):
    """Where results are: beside the script, or in a folder of the user's."""
    if folder is not None:
        return folder / f"{name}.json"
    *parts, last = name.split(".")
    return HERE.joinpath(*parts, "results", f"{last}.json")


# -- running -------------------------------------------------------------------------------------


def start(benchmark, args, path, again=False):
    """Return results to go on with: earlier ones with the same settings, or empty ones."""
    settings = benchmark.recorded(args)
    if benchmark.resume and not again and path.exists():
        earlier = json.loads(path.read_text())
        before = earlier.get("settings", {})
        # A script that has lost a setting can still go on.
        changed = {k: before.get(k) for k, v in settings.items() if before.get(k) != v}
        if not changed:
            return earlier
        words = ", ".join(f"{k} was {v!r}, is {settings[k]!r}" for k, v in changed.items())
        print(f"The results in {path} have other settings ({words}): starting anew.")
    return {"settings": settings, "environment": environment()}


def join(results, others):
    """Add what other results have to results: pieces by their names, at any depth.

    Parameters
    ----------
    results : dict
        Changed. What it has already stays.
    others : dict
        From another process or machine, with the same settings.
    """
    for name, value in others.items():
        if isinstance(value, dict) and isinstance(results.get(name), dict):
            join(results[name], value)
        else:
            results.setdefault(name, value)


def merge(name, folders):
    """Add what parallel processes found to the results of a script, and write its section.

    Parameters
    ----------
    name : str
        As in `names`.
    folders : list of Path
        Each was a process's ``--out``.

    Raises
    ------
    ValueError
        If one of them had other settings.
    """
    path = results_path(name)
    results = json.loads(path.read_text()) if path.exists() else {}
    for folder in folders:
        others = json.loads(results_path(name, folder).read_text())
        if results.get("settings", others["settings"]) != others["settings"]:
            raise ValueError(f"{folder} has settings {others['settings']}, not those of {path}.")
        if others["environment"] != results.get("environment", others["environment"]):
            also = results.setdefault("other_environments", [])
            also += [others["environment"]] * (others["environment"] not in also)
        join(results, others)
    load(name).section_of(results)  # so that what is summarised is of all pieces in the file, too
    write_json(path, results)
    run(name, render=True)


def run(name, given=None, *, smoke=False, render=False, again=False, folder=None):
    """Run a benchmark.

    Parameters
    ----------
    name : str
        As in `names`.
    given : dict or None
        Values of settings and options.
    smoke : bool
        A tiny run.
    render : bool
        Do not measure, only write the section.
    again : bool
        Do not go on from earlier results.
    folder : Path or None
        Where results and page go instead of the repository; ``render`` reads the repository's
        results if there are none.

    Returns
    -------
    results : dict or None
        None if there is nothing to measure on this machine.
    """
    benchmark = load(name)
    if smoke and folder is None:
        folder = Path(tempfile.mkdtemp())
    path = results_path(name, folder)
    n_threads = torch.get_num_threads()
    if render:
        source = path if path.exists() else results_path(name)
        results = json.loads(source.read_text())
    else:
        args = benchmark.arguments(given or {}, smoke)
        try:
            torch.set_num_threads(benchmark.threads or n_threads)
            results = start(benchmark, args, path, again)
            benchmark.measure(args, results, lambda: write_json(path, results))
        except Skip as skip:
            print(skip)
            return None
        finally:
            torch.set_num_threads(n_threads)
    text = benchmark.section_of(results)
    if not render:
        write_json(path, results)
        print(f"{text}\n\nwrote {path}")
    if text is not None:
        page = (folder or PAGES) / benchmark.page
        write_section(page, benchmark.section, text)
        print(f"wrote {page}")
    return results


# -- command line --------------------------------------------------------------------------------


def parser_of(name, benchmark):
    """Return a parser with the runner's options, and a script's."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    flags = {
        "smoke": "a tiny run that says nothing, into a temporary folder",
        "render": "do not measure, only write the section of the page again",
        "again": "do not go on from earlier results",
    }
    for flag, words in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=words)
    parser.add_argument("--out", type=Path, help="folder for results and page")
    parser.add_argument("--merge", type=Path, nargs="*", help="folders of other runs: join them")
    for option, value in {**benchmark.settings, **benchmark.options}.items():
        _add(parser, option, value if isinstance(value, Option) else Option(value))
    return parser


def _add(parser, name, option):
    flag, default = f"--{name.replace('_', '-')}", option.default
    words = f"{option.help} (default: {default})".strip().replace("%", "%%")
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=words)
        return
    several = isinstance(default, (list, tuple))
    kind = option.type
    if kind is None:
        example = default[0] if several and default else default
        kind = str if example is None or example == [] else type(example)
    params = {"nargs": "*"} if several else {}
    parser.add_argument(flag, type=kind, choices=option.choices, help=words, **params)


def main(argv=None):
    """Run what the command line names: scripts first, options after them."""
    argv = list(sys.argv[1:] if argv is None else argv)
    n_names = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    wanted, rest = argv[:n_names], argv[n_names:]
    if not wanted and rest == ["--list"]:
        for name in names():
            words = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").splitlines()
            print(f"{name:32} {words[0] if words else ''}")
        return
    if not wanted:
        how = __doc__.partition("How to write a script")[0].strip()
        raise SystemExit(f"Name a benchmark; options come after it.\n\n{how}")
    try:
        scripts = {name: load(name) for name in chosen(wanted)}
    except (ValueError, TypeError) as error:
        raise SystemExit(str(error)) from None
    # All command lines are read before anything runs.
    read = {
        name: vars(parser_of(name, script).parse_args(rest)) for name, script in scripts.items()
    }
    for name, given in read.items():
        if folders := given.pop("merge", None):
            merge(name, folders)
            continue
        own = {flag: given.pop(flag, False) for flag in ("smoke", "render", "again")}
        run(name, given, folder=given.pop("out", None), **own)
