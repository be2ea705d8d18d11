"""Validate the fields of records, and log the rows that are not valid."""
