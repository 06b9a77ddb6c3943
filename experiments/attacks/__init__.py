"""Attacks as measurements: ``haemfed attack NAME CONFIG`` (docs/attacks.md)."""
