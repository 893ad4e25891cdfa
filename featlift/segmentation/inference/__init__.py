"""A trained head applied, and scored."""
