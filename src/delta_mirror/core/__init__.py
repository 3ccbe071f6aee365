"""The rules of any mirror: no input or output, no clock, no logging, no randomness."""
