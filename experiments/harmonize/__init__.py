"""The round trip of harmonization: hospitals' exports made from a cohort, with faults seeded into them."""
