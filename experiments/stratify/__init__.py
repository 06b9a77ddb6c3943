"""``haemfed stratify``: subgroups of patients from a table of lesions, by chains on Ray."""
