"""What comes from outside, made as hostile as can be: see `docs/contributing.md`, "Fuzzing"."""
