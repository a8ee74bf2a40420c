"""Code in the README runs and shows what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


def block(containing):
    if not README.exists():
        pytest.skip("installed without its README")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return next(code for code in blocks if containing in code)


def test_a_table_as_its_user_has_it():
    names = {}
    exec(block("HistGradientBoostingClassifier"), names)
    best, frame = names["search"].best_estimator_, names["frame"]
    importance = dict(zip(frame, best.feature_importances_, strict=True))
    assert importance["id"] < 1e-12
    assert min(importance[name] for name in ("note", "smoker", "site")) > 0.01
    maps = best.transform(frame[:3])
    assert maps.columns.tolist() == frame.columns.tolist()
    model, mean = names["model"], best.mean_
    code = model.predict_proba(frame[:3])
    base = model.predict_proba(mean)
    first = code - base if best.center else code
    if best.method == "kernel_shap":
        np.testing.assert_allclose(maps.sum(axis=1), (first * (code - base)).sum(axis=1), atol=1e-9)
