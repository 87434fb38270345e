"""Checks that each implementation is correct: one package per question, with each test next to its helper."""
