"""The quickstart: built-in datasets, and a base model that is pre-trained locally."""
