"""Command line: ``python -m sklexplain report``."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from sklearn.exceptions import NotFittedError

from . import __version__

_DESCRIPTION = """\
Write one HTML file that shows what a model has learned to represent: which time steps or columns
build the representation, which known samples are most similar, and how far to trust all that. Of a
classifier or regressor it also shows which concepts make its output, and what a layer has kept.

Without --data, an autoencoder is trained on heartbeats that come with the package. With --data, one
is trained on your samples; with --model, your own fitted model is explained instead.
"""

_EXAMPLES = """\
examples:
  python -m sklexplain report
  python -m sklexplain report --data patients.csv --target diagnosis --out patients.html
  python -m sklexplain report --data beats.npz --layout channels-first
  python -m sklexplain report --data patients.csv --model pipeline.skops
"""


def build_parser():
    """Return the parser of the command line.

    Returns
    -------
    parser : argparse.ArgumentParser
    """
    from .explaining import METHODS
    from .reading import LAYOUTS

    parser = argparse.ArgumentParser(
        prog="sklexplain", description="Explain what a model has learned to represent."
    )
    parser.add_argument("--version", action="version", version=f"sklexplain {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    report = commands.add_parser(
        "report",
        help="write an HTML report on a model",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(report.add_argument, LAYOUTS)
    _add_reading(report.add_argument)
    _add_settings(report.add_argument, METHODS)
    return parser


def _add_inputs(add, layouts):
    """Add the options on data and model."""
    add(
        "--data",
        type=Path,
        metavar="FILE",
        help=".csv, .tsv, .txt, .parquet, .npy or .npz (X, or X_train and X_test; y); default: the "
        "bundled heartbeats",
    )
    add(
        "--layout",
        choices=layouts,
        help="what X is: table and series have 2 axes, channels-first "
        "is (samples, channels, time), channels-last (samples, time, channels), images (samples, "
        "channels, height, width); default for 2 axes: table",
    )
    add(
        "--target",
        metavar="COLUMN",
        help="column of labels (or array of a .npz file): left out of the samples and used only "
        "to grade the explanations",
    )
    add(
        "--id",
        metavar="COLUMN",
        help="column that names the samples, in the report and in --numbers (default: row numbers, "
        "or a column that is called so)",
    )
    add(
        "--group",
        metavar="COLUMN",
        help="column that says which samples belong together, a patient's for example: none is "
        "both learned from and explained",
    )
    add(
        "--model",
        type=Path,
        metavar="FILE",
        help="fitted estimator to explain: .skops, or a pickle with --allow-pickle",
    )
    add(
        "--trust",
        action="append",
        default=[],
        metavar="TYPE",
        help="type in a .skops file that you trust; may be repeated",
    )
    add(
        "--allow-pickle",
        action="store_true",
        help="load a pickled --model. A pickle can run any "
        "code: only do this with files whose origin you trust",
    )


def _add_reading(add):
    """Add the options on how the file is read."""
    add("--x", metavar="NAME", help="array with the samples in a .npz file")
    add(
        "--pivot",
        nargs="+",
        metavar="COLUMN",
        help="ID TIME VALUE [VALUE ...]: a table in long format, of which a row is one time of one "
        "series",
    )
    add("--sep", metavar="CHAR", help="separator of a text file, also 'tab' and 'blanks'")
    add("--decimal", choices=(".", ","), help="decimal mark of a text file")
    add("--encoding", metavar="NAME", help="encoding of a text file, cp1252 for example")
    add(
        "--header",
        action="store_true",
        help="the first row of a text file holds names, though they look like values",
    )
    add("--no-header", action="store_true", help="the first row of a text file is a sample")


def _add_settings(add, methods):
    """Add the options on what is done."""
    add(
        "--method",
        choices=["auto", *sorted(methods)],
        default="auto",
        metavar="METHOD",
        help=f"how features are attributed: {', '.join(methods)} (default: the one that goes with "
        "the model)",
    )
    add(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="file to write (default: %(default)s)",
    )
    add("--force", action="store_true", help="replace --out and --numbers whatever they are")
    add(
        "--numbers",
        type=Path,
        metavar="FILE",
        help="also write names, attributions and nearest known samples, as .csv or .parquet",
    )
    add(
        "--seed",
        type=_natural(0),
        default=0,
        metavar="N",
        help="seed of everything random (default: %(default)s)",
    )
    add("--max-epochs", type=_natural(1), metavar="N", help="train at most N epochs")
    add("--quiet", action="store_true", help="print nothing but errors")


def _natural(least):
    """Return a function that reads an integer of at least ``least``."""

    def integer(text):
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not least <= value < 2**32:
            raise argparse.ArgumentTypeError(f"{value} must be from {least} to {2**32 - 1}")
        return value

    return integer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str or None, default=None
        Arguments; None for those of the process.

    Returns
    -------
    status : int
        0, or 2 if what the user gave cannot be used.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    say = _silent if args.quiet else _say
    with warnings.catch_warnings():
        if args.quiet:
            warnings.simplefilter("ignore")
        else:
            warnings.showwarning = _warnings_once()
        try:
            _report(args, say)
        except (ValueError, TypeError, NotFittedError, OSError, ImportError) as error:
            # Errors of the library teach; a traceback would hide what they say.
            print(f"sklexplain: error: {error}", file=sys.stderr)
            return 2
    return 0


def _report(args, say):
    from .report import RepresentationReport, check_outputs

    start = time.perf_counter()
    check_outputs(args)
    _check_drawing()
    recipe = _recipe(args, say)
    say(f"sklexplain {__version__}: {recipe.sentence}")
    report = RepresentationReport(
        recipe.estimator,
        method=args.method,
        random_state=args.seed,
        verbose=0 if args.quiet else 1,
        **recipe.options,
    )
    with _one_thread():
        report.fit(**recipe.fit)
    path = report.to_html(args.out)
    if args.numbers is not None:
        say(f"Wrote {report.to_numbers(args.numbers)}.")
    _summarise(report, path, time.perf_counter() - start, say)


def _recipe(args, say):
    from .reading import InputError, read_data
    from .report import heartbeats, load_model, own_data, own_model

    about = ("target", "layout", "id", "group", "x", "pivot", "sep", "decimal", "encoding")
    given = [name for name in (*about, "header", "no_header") if getattr(args, name)]
    if args.data is None and given:
        option = given[0].replace("_", "-")
        raise InputError(f"--{option} says something about --data; give it too.")
    if args.model is None and (args.allow_pickle or args.trust):
        raise InputError("--allow-pickle and --trust say something about --model; give it too.")
    if args.model is not None and args.max_epochs is not None:
        raise InputError("--max-epochs is for training; the model from --model is not trained.")
    training = {"max_epochs": args.max_epochs, "progress": not args.quiet}
    if args.model is None and args.data is None:
        return heartbeats(args.seed, **training)
    if args.model is not None and args.data is None:
        raise InputError("--model needs --data: samples like those that the model was fitted on.")
    if args.header and args.no_header:
        raise InputError("--header and --no-header exclude each other; give one of them.")
    model, needed = None, ()
    if args.model is not None:
        model = load_model(args.model, trust=args.trust, allow_pickle=args.allow_pickle)
        needed = [str(name) for name in getattr(model, "feature_names_in_", ())]
    data = read_data(
        args.data,
        layout=args.layout,
        target=args.target,
        id=args.id,
        group=args.group,
        pivot_columns=args.pivot,
        samples=args.x,
        separator=args.sep,
        decimal=args.decimal,
        encoding=args.encoding,
        has_header=True if args.header else False if args.no_header else None,
        needed=needed,
    )
    say(f"read {data.read}")
    for note in data.notes:
        say(f"     {note}")
    if model is None:
        return own_data(data, args.data.name, args.seed, **training)
    return own_model(model, data, args.model.name, args.data.name, args.seed)


@contextmanager
def _one_thread():
    """Let torch use one thread.

    Small networks gain nothing by more, and on a busy machine threads that wait for each other made
    training eight times slower.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_drawing():
    """Say now, and not after minutes of training, if nothing can be drawn or written."""
    from .plotting import import_pyplot
    from .report import import_jinja2
    from .utils import missing_extra

    import_jinja2()
    try:
        import_pyplot()
    except ImportError as error:  # with the extra for drawing alone, tables would be missing next
        raise ImportError(missing_extra("matplotlib", "Writing reports", "report")) from error


def _summarise(report, path, seconds, say):
    from .report import concepts_sentence, decoding_sentence, doubts, verdict

    curve, agreement = report.latent_shift_, report.label_agreement_
    against = doubts(report)
    judged = verdict(curve, against)
    say(f"\n{judged.heading}: shift ratio {curve.area_ratio:.2f} (1 is chance).")
    for sentence in against:
        say(sentence)
    if agreement is not None:
        say(
            f"{agreement.most:.0%} of the {agreement.n_top} most similar known samples share the "
            f"sample's label (chance: {agreement.chance:.0%})."
        )
    rebuilt = report.reconstruction_
    if rebuilt is not None and None not in (rebuilt.train, rebuilt.explained):
        say(
            f"R² of reconstruction: {rebuilt.train:.2f} on training samples, "
            f"{rebuilt.explained:.2f} on explained ones."
        )
    parts = ((report.concepts_, concepts_sentence), (report.decoding_, decoding_sentence))
    for found, sentence in parts:
        if found is not None:
            reason = found.get("reason")
            say(sentence(found) if reason is None else f"Not possible here: {reason}")
    say(f"\nWrote {path} ({path.stat().st_size / 1e6:.1f} MB) in {seconds:.0f} s.")


def _say(text):
    print(text, flush=True)


def _silent(text):
    pass


def _warnings_once():
    """Return what shows warnings, each text once: several steps may find the same."""
    shown = set()

    def show(message, category, filename, lineno, file=None, line=None):
        if str(message) not in shown:
            shown.add(str(message))
            print(f"sklexplain: warning: {message}", file=sys.stderr)

    return show


if __name__ == "__main__":
    sys.exit(main())
