"""How many faults in the rules their tests notice."""
