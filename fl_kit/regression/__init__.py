"""Notebooks as regression tests: figures recorded in a notebook, held against bands by a command or by pytest.

    record(auc=0.87)                                      in a notebook's cell
    fl-kit notebooks run notebooks/ --quick --jobs 2      runs all of them, compares, exits with 1 if a band is broken
    pytest --fl-notebooks notebooks/                      the same as pytest tests

The bands stand in `bands.toml` beside the notebooks; see `fl_kit.regression.bands`.
"""
