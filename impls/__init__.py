"""Interchangeable implementations of HyperLSTM (Ha, Dai, Le 2016, arXiv 1609.09106) behind one torch module."""

from .hyperlstm import HyperLSTM
from .registry import Impl, names, register, why_unavailable

__all__ = ["HyperLSTM", "Impl", "names", "register", "why_unavailable"]
