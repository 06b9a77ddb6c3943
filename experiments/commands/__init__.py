"""The commands of ``haemfed``, by family: what they ask for, and what they print. The work is done elsewhere.

A command imports what it needs when it runs, so that ``--help`` and mistakes in the arguments are answered at once.
"""
