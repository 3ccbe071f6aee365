"""The edge that knows Accela: its contacts, what is mapped to them, its HTTP."""
