"""The checks of `sync doctor`, a module for each group of them.

A check is a function that takes the case and yields findings. `jobs/doctor.py` has the list, in the order in which they are told:
a check may stand on what those before it have found to be in order.
"""
