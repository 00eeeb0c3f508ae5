"""What Sphinx does not do by itself for this site: formulas, source pages, docstrings, pictures."""
