"""The section that vae_disentangling.py writes, and what both must know."""

import numpy as np

from ..common import markdown_table

METHODS = ("gradient_shap", "integrated_gradients")
UNTRAINED = "untrained"
WORDS = {"gradient_shap": "gradient SHAP", "integrated_gradients": "integrated gradients"}
MEASURES = {
    "pearson": "Pearson",
    "pearson_absolute": "Pearson, absolute",
    "entropy": "entropy",
    "entropy_equal_scale": "entropy, equal scale",
}


def name_of(beta, total_correlation):
    return f"{'TC, ' if total_correlation else ''}beta {beta:g}"


def _pm(values, digits=3):
    values = [v for v in values if v is not None]
    if not values:
        return ""
    std = np.std(values, ddof=1) if len(values) > 1 else 0
    return f"{np.mean(values):.{digits}f} ± {std:.{digits}f}"


def _kinds(results):
    betas = results["settings"]["betas"]
    names = [name_of(b, tc) for tc in (False, True) for b in betas if not (tc and b == 1)]
    found = {name: _of(results, name) for name in (*names, UNTRAINED)}
    return {name: runs for name, runs in found.items() if runs}


def _of(results, name):
    return {
        key.split(",")[0]: run
        for key, run in results["runs"].items()
        if key.split(", ", 1)[1] == name
    }


def _rho(entry):
    if entry["rho"] is None:
        return "cannot be told"
    p = "" if entry["p"] is None else f"p {_p(entry['p'])}, "
    return f"{entry['rho']:+.2f} ({p}{entry['n']} runs)"


def _p(value):
    return "< .001" if value < 0.001 else f"= {value:.3f}"


def _falls(kinds, results, method, what):
    """In how many seeds the value is lower at the largest β than at the smallest, by kind."""
    betas = results["settings"]["betas"]
    least, most = min(betas), max(betas)
    words = []
    for kind, tc in (("β-VAE", False), ("TC-VAE", True)):
        low = kinds.get(name_of(least, tc and least != 1), {})
        high = kinds.get(name_of(most, tc), {})
        pairs = [
            (low[s]["maps"][method].get(what), high[s]["maps"][method].get(what))
            for s in low
            if s in high
        ]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            n = sum(b < a for a, b in pairs)
            change = np.mean([b - a for a, b in pairs])
            words.append(
                f"{kind}: lower in {n} of {len(pairs)} seeds, change {change:+.3f} on average"
            )
    return "; ".join(words)


def _claims(kinds, results):
    table, spearman = [], results["spearman"]
    rows = (
        ("Pearson falls slightly with β on MNIST (fig. 6)", ("pearson", "pearson_absolute")),
        ("entropy falls with β (fig. 8)", ("entropy", "entropy_equal_scale")),
    )
    for claim, measures in rows:
        for what in measures:
            key = f"gradient_shap, {what}"
            table.append([claim, MEASURES[what], *(_rho(spearman[k][key]) for k in spearman)])
    header = ["the paper", "here", *(f"Spearman with β, {k}" for k in spearman)]
    return markdown_table(header, table).replace("---:", "---")


def _changes(kinds, results):
    betas = results["settings"]["betas"]
    lines = []
    for what, words in MEASURES.items():
        if text := _falls(kinds, results, "gradient_shap", what):
            lines.append(f"- {words}: {text}.")
    title = f"From β = {min(betas):g} to {max(betas):g}, seed by seed (gradient SHAP):"
    return "\n".join([title, "", *lines])


def _networks(kinds):
    header = ["network", "epochs", "stopped early", "ELBO at β = 1", "R²"]
    header += ["divergence, nats", "active units", "mean abs. correlation of codes"]
    rows = []
    for name, runs in kinds.items():
        runs = list(runs.values())
        epochs = sorted(run["n_epochs"] for run in runs)
        active = [sum(run["active"]) for run in runs]
        counts = ", ".join(f"{n} in {active.count(n)}" for n in sorted(set(active), reverse=True))
        stopped = sum(run["stopped_early"] for run in runs)
        rows.append(
            [
                name.replace("beta", "β ="),
                f"{epochs[0]} to {epochs[-1]}",
                "" if name == UNTRAINED else f"{stopped} of {len(runs)}",
                _pm([run["elbo"] for run in runs], 1),
                _pm([run["r2"] for run in runs], 2),
                _pm([sum(run["divergence"]) for run in runs], 1),
                counts,
                _pm([run["correlation_of_codes"] for run in runs], 2),
            ]
        )
    return markdown_table(header, rows)


def _maps(kinds, method):
    header = ["network", *MEASURES.values(), "Pearson, active", "entropy, active, of its largest"]
    rows = []
    for name, runs in kinds.items():
        maps = [run["maps"][method] for run in runs.values()]
        measures = (*MEASURES, "pearson_active", "entropy_active")
        values = [_pm([m.get(what) for m in maps]) for what in measures]
        rows.append([name.replace("beta", "β ="), *values])
    return markdown_table(header, rows)


def _converged(kinds):
    trained = [run for name, runs in kinds.items() if name != UNTRAINED for run in runs.values()]
    stopped = sum(run["stopped_early"] for run in trained)
    gains = [run["last_gain"] for run in trained if "last_gain" in run]
    words = f"Has every network converged? {stopped} of {len(trained)} stopped early"
    if gains:
        words += (
            f"; the last tenth of the epochs brought {np.mean(gains):.2f} nats a digit on held-out "
            f"training digits, {max(gains):.2f} at most"
        )
    return words + "."


def render(results):
    """Return the section as Markdown."""
    kinds, settings = _kinds(results), results["settings"]
    n_seeds = len({key.split(",")[0] for key in results["runs"]})
    parts = [
        "## Units of disentangled VAEs",
        "Crabbé & van der Schaar (ICML 2022), section 4.3 and appendix C.3, figures 5, 6 and 8. "
        f"{n_seeds} seeds (split, weights, draws); ± is the standard deviation over seeds. With "
        "the same seed, networks have the same digits and the same first weights. Made by "
        "`benchmarks/papers/vae_disentangling.py`; every run is in "
        "`benchmarks/papers/results/vae_disentangling.json`.",
        _claims(kinds, results),
        "*β-VAE*: β weighs the divergence; *TC-VAE*: the total correlation; with β = 1 they are "
        "the same networks. Pearson is the mean over the three pairs of units, over all digits and "
        f"pixels; entropy, in nats, has ln 3 = {np.log(3):.3f} as its largest value. *Absolute*: "
        "of |maps|. *Equal scale*: each unit's maps are divided by their mean size before, so that "
        "only where units look counts, and not how large their numbers are.",
        _changes(kinds, results),
        "**Networks.** Divergence of the codes from the prior, summed over units: what β is there "
        "to make smaller. Active units are those whose posterior means have a variance above 0.01.",
        _networks(kinds),
        _converged(kinds),
    ]
    for method in METHODS:
        parts += [f"**Maps by {WORDS[method]}.**", _maps(kinds, method)]
    parts += ["### What differs from the paper", _differences(settings, n_seeds)]
    return "\n\n".join(parts)


def _differences(settings, n_seeds):
    lines = [
        f"{n_seeds} runs of each network, the paper 20; at most {settings['epochs']} epochs with "
        f"patience {settings['patience']}, the paper 100 with 10; {settings['n_train']:,} digits "
        "for training, the paper 60,000, a tenth of them held out for early stopping.",
        "Digits have a border of two black pixels (32 × 32), as the paper's encoder, three "
        "convolutions of stride 2 to 4 × 4, needs them. The border has no importance: the baseline "
        "is black, as there. The decoder is the encoder's mirror image: output paddings and the "
        "layer after the code of the paper's table 8 do not fit.",
        f"{settings['n_explained']} test digits are explained, with 50 draws of gradient SHAP "
        "that all digits share.",
        "The paper's rank correlations are over both kinds of network; the values stand in its "
        "figures only. dSprites is not part of this run, and pictures (figure 5) are not judged.",
    ]
    return "\n".join(f"- {line}" for line in lines)
