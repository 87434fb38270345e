"""Checks that each implementation is right: one sub-package a question, each test beside its helper."""
