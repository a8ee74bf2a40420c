"""
Monitoring drift with p-values
==============================

A model is in use, and nobody labels what comes in. Do the samples still look like those it was made
for? :meth:`AnomalyAttributor.pvalue <sklexplain.AnomalyAttributor.pvalue>` says of every sample how
often one of the old kind would be as odd, so that a day with too many small p-values is an alarm
whose false alarms can be counted beforehand, and the attributions say which columns it is.

The patients are scikit-learn's breast cancer data. The drift is put in by hand, since it has to be
known what there is to find.
"""

# %%
# Train, calibrate, and five days
# -------------------------------
# The autoencoder learns from 230 patients; 139 *others* calibrate the p-values; 200 arrive on five
# days, 40 a day. Days 1 and 2 are as they were. On day 3 every column is a little noisy, on day 4 a
# single one is off by four standard deviations, on day 5 all are higher by two.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import betabinom
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import AnomalyAttributor, NoiseScorer
from sklexplain.nets import Autoencoder

X, _ = load_breast_cancer(return_X_y=True, as_frame=True)
known, arriving = train_test_split(X, test_size=200, random_state=0)
train, calibration = train_test_split(known, train_size=230, random_state=0)
model = make_pipeline(
    StandardScaler(),
    Autoencoder(
        hidden_layer_sizes=(64,), lr=0.003, max_epochs=150, validation_split=None, random_state=0
    ),
).fit(train)

rng = np.random.default_rng(0)
sd = train.std()
days = {f"day {i + 1}": arriving[i * 40 : (i + 1) * 40].copy() for i in range(5)}
days["day 3"] += rng.normal(size=days["day 3"].shape) * 1.0 * sd.to_numpy()
days["day 4"]["mean smoothness"] += 4 * sd["mean smoothness"]
days["day 5"] += 2 * sd

# %%
# Three statistics
# ----------------
# P-values of a day share the calibration patients, so the number of small ones is not binomial but
# beta-binomial, which is hardly more work. ``alarm`` is the probability of so many, if nothing has
# changed.

level = 0.05
errors = AnomalyAttributor(model).fit(calibration)
largest = AnomalyAttributor(model, score_function="largest_residual").fit(calibration)
noise = NoiseScorer(model, random_state=0).fit(calibration)
statistics = {
    "reconstruction error": (errors.pvalue, len(calibration)),
    "largest residual": (largest.pvalue, len(calibration)),
    "noise score": (noise.drift_pvalue, len(calibration) // 2),  # which ranks half of them
}
shares, alarms = {}, {}
for name, (pvalue, n) in statistics.items():
    found = {day: int(np.sum(pvalue(patients) <= level)) for day, patients in days.items()}
    below = int(level * (n + 1))
    expected = betabinom(40, below, n + 1 - below)
    shares[name] = {day: count / 40 for day, count in found.items()}
    alarms[name] = {day: expected.sf(count - 1) for day, count in found.items()}
print("share of patients with p ≤ .05")
print(pd.DataFrame(shares).round(2).to_string())
print("alarm")
print(pd.DataFrame(alarms).map("{:.1e}".format).to_string())

# %%
n = len(calibration)
limit = betabinom(40, int(level * (n + 1)), n + 1 - int(level * (n + 1))).ppf(0.99) / 40
figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
for i, (name, by_day) in enumerate(shares.items()):
    ax.bar(np.arange(5) + 0.27 * (i - 1), by_day.values(), width=0.25, label=name)
ax.axhline(limit, color="0.2", linestyle="--", linewidth=1)
ax.text(-0.45, limit + 0.02, "limit for an alarm (1 % of the days)", fontsize=8)
kinds = [
    "as before",
    "as before",
    "noise in\nall columns",
    "one column\n+ 4 sd",
    "all columns\n+ 2 sd",
]
ax.set_xticks(range(5), [f"{day}\n{kind}" for day, kind in zip(days, kinds, strict=True)])
ax.set_ylabel("share with p ≤ .05")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %%
# Which columns?
# --------------
# The mean attribution of the day, beside that of the calibration patients:

usual = largest.set_output(transform="pandas").transform(calibration).mean()
for day in ["day 1", "day 3", "day 4", "day 5"]:
    rise = (largest.transform(days[day]).mean() - usual).sort_values(ascending=False)
    share = rise / rise.clip(lower=0).sum()
    print(f"{day}: {', '.join(f'{name} ({share[name]:.0%})' for name in rise.index[:3])}")

# %%
# What was found
# --------------
# * The two days without drift raise no alarm.
# * Noise in all columns breaks what columns have to do with each other: the reconstruction error
#   flags every patient. A single column that is off is seen in 48 % of the patients, and the map
#   names it, ``mean smoothness``, with 59 % of the rise, and its neighbour ``worst smoothness``
#   next.
# * If *all* columns rise together, patients look like other patients, with larger tumours. The
#   reconstruction error flags two thirds of them, the largest residual hardly more than usual. Here
#   one would better compare means of days.
# * The noise score raises no clear alarm on any day. In tables it sees little, and
#   :doc:`the benchmarks </results/anomalies>` found the same.
# * Where a day is as usual, the column named first means nothing: day 1 has one, too. Look at the
#   alarm first and at the map second.
