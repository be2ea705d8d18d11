"""Find near-duplicates and contamination, on hashed n-grams of words."""
