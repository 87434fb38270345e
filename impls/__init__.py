"""Interchangeable implementations of HyperLSTM (Ha, Dai, Le 2016, arXiv 1609.09106) behind one torch module."""

from . import convert
from .hyperlstm import HyperLSTM
from .registry import Impl, names, register, why_unavailable

#: The only place of the version, which the package's metadata takes from here.
__version__ = "0.1.0"
__all__ = ["HyperLSTM", "Impl", "convert", "names", "register", "why_unavailable"]
