"""Describe the rows of a dataset for its report."""
