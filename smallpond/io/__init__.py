"""Files: pickles, URLs, Parquet and Arrow."""
