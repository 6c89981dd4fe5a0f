"""Fitting estimators with scikit-learn and torch; never imported by the serving process."""
