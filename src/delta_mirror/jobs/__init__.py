"""What the program does, a module per job, in the order it does it."""
