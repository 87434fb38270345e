"""Plugins of pytest that make a run of the suite a verification; `suite/conftest.py` lists them."""
