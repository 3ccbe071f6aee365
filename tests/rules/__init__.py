"""The rules of the program, as tables, properties and state machines."""
