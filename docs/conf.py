"""How the documentation is built. `make docs` needs no network, and its pages ask for none."""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
# The gallery runs two examples at a time: threads of each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import sklexplain  # noqa: E402

project = "sklexplain"
author = "The sklexplain developers"
copyright = author  # noqa: A001
version = release = sklexplain.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "offline_math",
    "docstrings",
]
root_doc = "index"
exclude_patterns = ["_build", "_ext", "_templates", "gallery", "generated/backreferences"]
exclude_patterns += ["auto_gallery/*.ipynb", "auto_gallery/*.py", "auto_gallery/*.md5"]
templates_path = ["_templates"]
toc_object_entries_show_parents = "hide"  # a class's name in front of every method is too long
suppress_warnings = ["config.cache"]  # functions in the gallery's settings are not kept

# -- Pages ----------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist", "substitution"]
# Pages of results link to each other's titles, as GitHub names them.
myst_heading_anchors = 4
myst_substitutions = {"version": version}

# -- Docstrings -----------------------------------------------------------------------------------

default_role = "py:obj"
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"  # types are told in the docstrings, for readers
numpydoc_show_class_members = False  # the template lists them, with their docstrings
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
viewcode_line_numbers = True

# Other libraries' pages are on the network, so their names are not links.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|scipy|sklearn|torch|skorch|pandas|polars|matplotlib|dask|joblib)\..*"),
    (r"py:.*", r"(nn|torch\.nn)\..*"),
]

# -- Pictures that pages draw ----------------------------------------------------------------------

plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 150)]
plot_rcparams = {"savefig.bbox": "tight"}
plot_apply_rcparams = True

# -- Gallery --------------------------------------------------------------------------------------

if list((HERE / "gallery").glob("**/plot_*.py")):
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": "gallery",
        "gallery_dirs": "auto_gallery",
        "filename_pattern": r"plot_",
        "within_subsection_order": "FileNameSortKey",
        "abort_on_example_error": True,
        "parallel": 2,
        "doc_module": ("sklexplain",),
        "backreferences_dir": "generated/backreferences",
        "reference_url": {"sklexplain": None},
        "inspect_global_variables": False,
        # The boxes in which scikit-learn shows estimators put buttons into buttons.
        "ignore_repr_types": r"matplotlib|sklearn|sklexplain|skorch",
        "remove_config_comments": True,
        "show_memory": False,
        "write_computation_times": False,  # a table that needs the network
        "plot_gallery": os.environ.get("SKLEXPLAIN_GALLERY", "run") == "run",
        "thumbnail_size": (400, 280),
    }
    # Warnings of the libraries that examples use are no faults of the pages.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
else:
    exclude_patterns.append("auto_gallery")
    suppress_warnings.append("toc.empty_glob")

# -- HTML -----------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"sklexplain {version}"
html_static_path = ["_static"]
html_css_files = ["sklexplain.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
# Summaries are fetched by the browser, which it may not do on pages that are opened as files.
html_show_search_summary = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_align": "left",
    "show_nav_level": 1,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Pages that have no others beside them.
_ALONE = ("index", "install", "five_minutes", "quick_start", "which_explainer")
_ALONE += ("changelog", "contributing")
html_sidebars = dict.fromkeys(_ALONE, [])
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
