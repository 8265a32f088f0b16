"""What a user runs beside the two scripts: python -m tools.NAME, from the repository's folder."""
