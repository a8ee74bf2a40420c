"""
A report of a model
===================

What the other examples do piece by piece, :class:`~sklexplain.report.RepresentationReport` does at
once, and writes into one HTML file for people who do not program: which columns build the
prediction, which concepts it is made of, what a layer keeps, which known samples it resembles, and
how far each of these can be trusted. The file needs no network and no JavaScript.
"""

# %%
# Fit a model, and let it be reported on
# --------------------------------------
# Settings here are for a short time of computing; without them, explanations are trained longer.

from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from sklearn.datasets import load_wine
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain.report import RepresentationReport

data = load_wine(as_frame=True)
X = data.data.rename(columns={"od280/od315_of_diluted_wines": "od280/od315"})
classifier = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=1000, random_state=0))
report = RepresentationReport(
    classifier,
    n_examples=2,
    n_neighbors=3,
    concept_params={"n_concepts": 3, "hidden_layer_sizes": (32,)},
    decoding_params={"max_epochs": 200},
    target_names={i: name.replace("_", " ") for i, name in enumerate(data.target_names)},
    title="Three cultivars of wine",
    random_state=0,
).fit(X, data.target)

# %%
# What it found, in numbers
# -------------------------
# Everything on the page is an attribute of the fitted report, too.

print(f"accuracy on wines set aside: {report.predictions_.accuracy:.2f}")
order = report.feature_importances_.argsort()[::-1][:3]
print("columns that build the prediction:", ", ".join(X.columns[order]))
print(
    f"masking by the maps moves it {report.latent_shift_.area_ratio:.2f} times as far as at random"
)
print(f"R² of the output told by three concepts: {report.concepts_.faithfulness:.2f}")
print(f"wines rebuilt from the layer that get the same class: {report.decoding_.agreement:.2f}")

# %%
# The page
# --------
# In a notebook or here it can be shown in a frame; elsewhere, open the file in a browser.


class Frame:
    """Show a page in a frame."""

    def __init__(self, path):
        self.page = Path(path).read_text(encoding="utf-8")

    def _repr_html_(self):
        return (
            '<iframe title="The report" style="width: 100%; height: 700px; border: 1px solid '
            f'#888" srcdoc="{escape(self.page)}"></iframe>'
        )


with TemporaryDirectory() as folder:
    path = report.to_html(Path(folder) / "wine.html")
    print(f"{path.stat().st_size / 1000:.0f} kB")
    frame = Frame(path)
frame

# %%
# What was found
# --------------
# The classifier gets 97 % of the wines set aside right, and decides by alcohol, ash and flavanoids.
# Masking columns in the order of the maps moves its output twice as far as in random order, so the
# maps can be trusted. Three concepts tell 98 % of its output, and all wines rebuilt from its hidden
# layer are classified as before: the layer keeps what the decision needs. The page says all of it
# in words.
